/** Chunks of frames: which ones a video has, what each becomes, and the plan of one chunk. */
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { BINDING_BYTES } from "../../ops/video/frames.ts";
import { Plan } from "../../plan/plan.ts";
import { DISCRETE_LIMITS, type RecordingLimits } from "../../plan/limits.ts";
import { finish, type Recording } from "../../plan/recording.ts";
import { Tensor } from "../../plan/tensor.ts";
import { changesTime, spatialCompression, type VaeConfig, type VaePart } from "./config.ts";
import { type ChunkKind, decodeChunk, encodeChunk, FrameCaches, LEAD } from "./graph.ts";
import { defaultTiling, tileGrid, tiles, type Tiling, wholeGrid } from "./tiling.ts";
import { paddedChannels, VaeWeights } from "./weights.ts";

/** Frames of one chunk: 8 pixel frames, or the 2 latents they become. */
function chunkFrames({ temporal_compression_ratio }: VaeConfig, part: VaePart): number {
  return part === "encoder" ? 2 * temporal_compression_ratio : 2;
}

/** Half-open ranges of frames; the first chunk also takes what does not fill one. */
export function chunkSpans(config: VaeConfig, part: VaePart, total: number): [number, number][] {
  const size = chunkFrames(config, part);
  const count = Math.max(Math.floor(total / size), 1);
  const rest = total % size;
  return Array.from({ length: count }, (_, i) => [
    i === 0 ? 0 : size * i + rest,
    count === 1 ? total : size * (i + 1) + rest,
  ]);
}

/** Frames a chunk becomes: pairs are averaged, or frames doubled, once per block that changes time. */
export function outputFrames(config: VaeConfig, part: VaePart, frames: number): number {
  let count = frames;
  for (let i = 0; i < config.block_out_channels.length - 1; i++) {
    if (!changesTime(config, i)) continue;
    count = part === "encoder" ? Math.ceil(count / 2) : count === 1 ? 1 : 2 * count - count % 2;
  }
  return count;
}

/** Rows or columns that `length` of them become; the encoder halves and drops an odd rest at every downsampler. */
export function outputLength(config: VaeConfig, part: VaePart, length: number): number {
  const factor = spatialCompression(config);
  return part === "encoder" ? Math.floor(length / factor) : length * factor;
}

/** Storage and limits a chunk is recorded with. */
export interface RecordOptions {
  readonly target: Target;
  readonly limits: RecordingLimits;
  /** Largest range one launch binds. */
  readonly bindingBytes: number;
}

/** Which chunk: frames without earlier ones, height and width in input units. */
export interface ChunkShape {
  readonly kind: ChunkKind;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** The plan of one chunk. */
export interface ChunkRecording {
  readonly recording: Recording;
  /** [2 + frames, h, w, channels], earlier frames first. */
  readonly input: Tensor;
  /** Decoder only: the latents without earlier frames. */
  readonly latent: Tensor | undefined;
  /** f32 [frames', h', w', channels']. */
  readonly output: Tensor;
}

/** Records one chunk; needs neither device nor data. */
export function recordChunk(
  weights: VaeWeights,
  caches: FrameCaches,
  { kind, frames, height, width }: ChunkShape,
  { target, limits, bindingBytes }: RecordOptions,
): ChunkRecording {
  const { config, part, dtype } = weights;
  const plan = new Plan({ target });
  const channels = paddedChannels(part === "encoder" ? config.in_channels : config.latent_channels);
  const resident = (name: string, count: number) =>
    new Tensor(name, [count, height, width, channels], dtype, { resident: true });
  const input = resident("chunk", LEAD + frames);
  const latent = part === "decoder" ? resident("latent chunk", frames) : undefined;
  const context = { plan, bindingBytes, weights, caches, kind, ...(latent === undefined ? {} : { latent }) };
  const output = plan.output(part === "encoder" ? encodeChunk(context, input) : decodeChunk(context, input));
  return { recording: finish(plan, limits), input, latent, output };
}

/** One plan of a forecast and how often it runs. */
export interface ChunkForecast {
  readonly chunk: ChunkShape;
  readonly recording: Recording;
  readonly runs: number;
}

/** What a forecast assumes. */
export interface VaeForecastOptions {
  /** Storage of activations and convolution weights. */
  readonly dtype?: DType;
  /** Tile sizes, or false for none; by default those of the config. */
  readonly tiling?: Tiling | false;
  readonly target?: Target;
  readonly limits?: RecordingLimits;
}

/**
 * Records every distinct chunk of encoding (or decoding) a video [frames, height, width] in pixels (or latents),
 * without a device and without weights. Chunks run one after the other, so the peak is the largest recording's, not the
 * sum.
 */
export function forecastVae(
  config: VaeConfig,
  part: VaePart,
  [frames, height, width]: readonly [number, number, number],
  { dtype = "f32", tiling = defaultTiling(config), target = plainTarget(32), limits = DISCRETE_LIMITS }:
    VaeForecastOptions = {},
): ChunkForecast[] {
  const weights = new VaeWeights(config, part, dtype);
  const grid = tiling === false ? undefined : tileGrid(config, part, [height, width], tiling);
  const forecasts = new Map<string, { chunk: ChunkShape; recording: Recording; runs: number }>();
  for (const { area } of tiles(grid ?? wholeGrid([height, width], [height, width]))) {
    const size = [area.bottom - area.top, area.right - area.left] as const;
    for (const { from: _, ...chunk } of tileChunks(config, part, frames, ...size)) {
      const key = JSON.stringify(chunk);
      const known = forecasts.get(key);
      if (known !== undefined) known.runs++;
      else {
        const options = { target, limits, bindingBytes: BINDING_BYTES };
        const { recording } = recordChunk(weights, new FrameCaches(), chunk, options);
        forecasts.set(key, { chunk, recording, runs: 1 });
      }
    }
  }
  return [...forecasts.values()];
}

/** The chunks of one tile in order. */
export function tileChunks(
  config: VaeConfig,
  part: VaePart,
  frames: number,
  height: number,
  width: number,
): (ChunkShape & { readonly from: number })[] {
  const spans = chunkSpans(config, part, frames);
  return spans.map(([from, to], i) => ({
    kind: spans.length === 1 ? "only" : i === 0 ? "first" : "next",
    frames: to - from,
    height,
    width,
    from,
  }));
}
