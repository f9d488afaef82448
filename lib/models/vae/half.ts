/**
 * One half of the autoencoder on a device: its weights, its recorded chunks, and the run of a whole video through it.
 */
import { Executable } from "../../gpu/executable.ts";
import type { Session } from "../../gpu/session.ts";
import { encodeF32, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import {
  type ChunkRecording,
  type ChunkShape,
  outputFrames,
  outputLength,
  recordChunk,
  type RecordOptions,
  tileChunks,
} from "./chunks.ts";
import type { VaeConfig, VaePart } from "./config.ts";
import { FrameCaches, LEAD } from "./graph.ts";
import { assembledSize, TileAssembler, tileGrid, tiles, type Tiling, wholeGrid } from "./tiling.ts";
import { emptyVolume, gatherChunk, type Rectangle, scatterChunk, type Volume } from "./volume.ts";
import { VaeWeights } from "./weights.ts";

/** Everything recorded for one tile size; the chunks of a tile share its caches. */
interface TileSize {
  readonly key: string;
  readonly caches: FrameCaches;
  readonly chunks: Map<string, ChunkRecording>;
}

/** Encoder or decoder. One video at a time: its caches belong to the tile being processed. */
export class VaeHalf implements Disposable {
  readonly #weights: VaeWeights;
  readonly #sizes = new Map<string, TileSize>();
  /** The chunk whose arena is allocated; only one is, so that memory never holds two. */
  #live: { readonly chunk: ChunkRecording; readonly executable: Executable; readonly size: TileSize } | undefined;
  #loaded = false;

  constructor(
    readonly session: Session,
    readonly config: VaeConfig,
    readonly part: VaePart,
    readonly dtype: StorageType,
    readonly options: RecordOptions,
  ) {
    this.#weights = new VaeWeights(config, part, dtype);
  }

  /** Encodes (or decodes) a video, tile by tile and chunk by chunk; the first run uploads the weights. */
  async run(video: Volume, source: TensorSource, tiling: Tiling | false): Promise<Volume> {
    const { config, part } = this;
    const [, frames, height, width] = video.shape;
    const size = [height, width] as const;
    const length = (input: number) => outputLength(config, part, input);
    const grid = (tiling === false ? undefined : tileGrid(config, part, size, tiling)) ??
      wholeGrid(size, [length(height), length(width)]);
    const channels = part === "encoder" ? 2 * config.latent_channels : config.out_channels;
    const spans = tileChunks(config, part, frames, height, width);
    const total = spans.reduce((sum, chunk) => sum + outputFrames(config, part, chunk.frames), 0);
    if (!this.#loaded) await this.#weights.upload(this.session, source);
    this.#loaded = true;
    const assembler = new TileAssembler(grid, emptyVolume([channels, total, ...assembledSize(grid, length)]));
    try {
      for (const { row, column, area } of tiles(grid)) {
        assembler.add(row, column, await this.#runTile(video, area, channels, total));
      }
    } finally {
      this.#release();
    }
    return assembler.result;
  }

  async #runTile(video: Volume, area: Rectangle, channels: number, total: number): Promise<Volume> {
    const { config, part } = this;
    const [height, width] = [area.bottom - area.top, area.right - area.left];
    const size = [outputLength(config, part, height), outputLength(config, part, width)] as const;
    const tile = emptyVolume([channels, total, ...size]);
    let written = 0;
    for (const chunk of tileChunks(config, part, video.shape[1], height, width)) {
      const { executable, recording } = this.#prepare(chunk);
      this.#writeInputs(video, area, chunk, recording);
      executable.run();
      const [bytes] = await executable.read([recording.output]);
      scatterChunk(new Float32Array(bytes!), recording.output.width, tile, written);
      written += recording.output.shape[0]!;
    }
    return tile;
  }

  #writeInputs(video: Volume, area: Rectangle, chunk: ChunkShape & { from: number }, recording: ChunkRecording): void {
    const { input, latent } = recording;
    const { from, frames } = chunk;
    const values = gatherChunk(video, area, { from: from - LEAD, to: from + frames, width: input.width });
    this.session.write(input, encodeF32(values, this.dtype));
    if (latent === undefined) return;
    this.session.write(latent, encodeF32(values.slice(values.length - latent.size), this.dtype));
  }

  /** The executable of a chunk; caches survive as long as the tile size stays the same. */
  #prepare(shape: ChunkShape): { executable: Executable; recording: ChunkRecording } {
    const size = this.#sizeOf(shape);
    const { kind, frames } = shape;
    const key = `${kind} ${frames}`;
    let chunk = size.chunks.get(key);
    if (chunk === undefined) {
      chunk = recordChunk(this.#weights, size.caches, shape, this.options);
      size.chunks.set(key, chunk);
    }
    if (this.#live?.chunk !== chunk) {
      this.#release(size);
      this.#live = { chunk, size, executable: new Executable(this.session, chunk.recording) };
    }
    return { executable: this.#live!.executable, recording: chunk };
  }

  #sizeOf({ height, width }: ChunkShape): TileSize {
    const key = `${height}x${width}`;
    let size = this.#sizes.get(key);
    if (size === undefined) {
      size = { key, caches: new FrameCaches(), chunks: new Map() };
      this.#sizes.set(key, size);
    }
    return size;
  }

  /** Frees the arena and the inputs of the live chunk, and its caches unless the next chunk has the same tile size. */
  #release(next?: TileSize): void {
    if (this.#live === undefined) return;
    const { chunk, executable, size } = this.#live;
    executable[Symbol.dispose]();
    this.session.free(chunk.input);
    if (chunk.latent !== undefined) this.session.free(chunk.latent);
    if (size !== next) { for (const cache of size.caches.all) this.session.free(cache); }
    this.#live = undefined;
  }

  /** Frees weights and everything else; a later run uploads the weights again. */
  [Symbol.dispose](): void {
    this.#release();
    this.#weights.free(this.session);
    this.#loaded = false;
  }
}
