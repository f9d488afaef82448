/**
 * Group normalisation of a channels-last tensor [positions, channels]: statistics over all positions and the channels
 * of a group.
 *
 * Statistics are per channel first (mean and M2, the sum of squared distances from it), in parts of consecutive
 * positions that are merged in a fixed order by the formulas of Chan, Golub and LeVeque (1979); channels of a group are
 * merged last, so any number of channels per group works. No step subtracts large equal numbers, and two runs give the
 * same bits.
 */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel } from "../core/wgsl.ts";

/** Positions of one part. */
export const PART_POSITIONS = 256;

/** Parts one thread merges. */
export const MERGE_FACTOR = 64;

/** Positions one thread normalises, so that it reads the vectors of its channels once. */
const APPLY_POSITIONS = 16;

/** Shapes of {@linkcode groupNormParts}. */
export interface PartsShape {
  readonly positions: number;
  readonly channels: number;
  /** Number of the first part this launch writes, when the input is read in several slices. */
  readonly firstPart: number;
}

/**
 * Mean and M2 of every part and channel. Buffers: x [positions, channels], parts f32 [parts, 2, channels]. Sums are
 * taken of distances from the part's first value, which lies within a few deviations of the mean.
 */
export function groupNormParts(
  { dtype }: { readonly dtype: DType },
  { positions, channels, firstPart }: PartsShape,
): Launch {
  const parts = Math.ceil(positions / PART_POSITIONS);
  const kernel = buildKernel({
    name: "group_norm_parts",
    spec: { dtype },
    params: ["positions", "channels4", "parts", "first_part"],
    buffers: [{ name: "x", dtype }, { name: "parts", dtype: "f32" }],
    workgroupSize: THREADS,
    body: `let part = gid / params.channels4;
let channel = gid % params.channels4;
if (part >= params.parts) { return; }
let first = part * ${PART_POSITIONS}u;
let count = min(${PART_POSITIONS}u, params.positions - first);
let origin = load_x(first * params.channels4 + channel);
var sum = vec4f(0);
var squares = vec4f(0);
for (var i = 1u; i < count; i++) {
  let distance = load_x((first + i) * params.channels4 + channel) - origin;
  sum += distance;
  squares += distance * distance;
}
let shift = sum / f32(count);
let at = (params.first_part + part) * 2u * params.channels4 + channel;
store_parts(at, origin + shift);
store_parts(at + params.channels4, max(squares - sum * shift, vec4f(0)));`,
  });
  return {
    kernel,
    params: [positions, channels / 4, parts, firstPart],
    grid: foldGrid(Math.ceil(parts * (channels / 4) / THREADS)),
    flops: 4 * positions * channels,
  };
}

/** Shapes of {@linkcode groupNormMerge}. */
export interface MergeShape {
  /** Parts to be merged, and the positions each of them covers (the last one may cover fewer). */
  readonly parts: number;
  readonly partPositions: number;
  /** Positions all of them cover together. */
  readonly positions: number;
  readonly channels: number;
}

/**
 * Merges every {@linkcode MERGE_FACTOR} parts into one. Buffers: parts f32 [parts, 2, channels], merged f32 [ceil(parts
 * / 64), 2, channels].
 */
export function groupNormMerge({ parts, partPositions, positions, channels }: MergeShape): Launch {
  const merged = Math.ceil(parts / MERGE_FACTOR);
  const kernel = buildKernel({
    name: "group_norm_merge",
    spec: {},
    params: ["parts", "part_positions", "positions", "channels4", "merged"],
    buffers: [{ name: "parts", dtype: "f32" }, { name: "merged", dtype: "f32" }],
    workgroupSize: THREADS,
    body: `let target_part = gid / params.channels4;
let channel = gid % params.channels4;
if (target_part >= params.merged) { return; }
let first = target_part * ${MERGE_FACTOR}u;
let last = min(first + ${MERGE_FACTOR}u, params.parts);
var mean = vec4f(0);
var m2 = vec4f(0);
var count = 0.0;
for (var part = first; part < last; part++) {
  let at = part * 2u * params.channels4 + channel;
  let added = f32(min(params.part_positions, params.positions - part * params.part_positions));
  let total = count + added;
  let distance = load_parts(at) - mean;
  mean += distance * (added / total);
  m2 += load_parts(at + params.channels4) + distance * distance * (count * added / total);
  count = total;
}
let at = target_part * 2u * params.channels4 + channel;
store_merged(at, mean);
store_merged(at + params.channels4, m2);`,
  });
  return {
    kernel,
    params: [parts, partPositions, positions, channels / 4, merged],
    grid: foldGrid(Math.ceil(merged * (channels / 4) / THREADS)),
    flops: 8 * parts * channels,
  };
}

/** Shapes of {@linkcode groupNormTable}. */
export interface TableShape {
  readonly positions: number;
  readonly channels: number;
  /** Channels in front of the zeros that fill up to a multiple of four; the groups share these. Default all. */
  readonly trueChannels?: number;
  readonly groups: number;
  readonly eps: number;
}

/**
 * Merges the channels of each group. Buffers: statistics f32 [2, channels] (mean and M2 of each channel), weight f32
 * [channels], table f32 [2, channels]: mean of the channel's group, and weight / sqrt(variance + eps). Channels behind
 * the true ones count to the last group and have weight 0.
 */
export function groupNormTable({ positions, channels, trueChannels = channels, groups, eps }: TableShape): Launch {
  const groupChannels = trueChannels / groups;
  const kernel = buildKernel({
    name: "group_norm_table",
    spec: {},
    params: ["positions:f32", "channels", "group_channels", "last_group", "eps:f32"],
    buffers: [
      { name: "statistics", dtype: "f32" },
      { name: "weight", dtype: "f32" },
      { name: "table", dtype: "f32" },
    ],
    workgroupSize: THREADS,
    declarations: `fn statistic(i: u32) -> f32 {
  let v = load_statistics(i / 4u);
  return v[i % 4u];
}
fn group_moments(channel: u32) -> vec2f {
  let first = min(channel - channel % params.group_channels, params.last_group);
  let channels = f32(params.group_channels);
  var mean = 0.0;
  for (var i = 0u; i < params.group_channels; i++) { mean += statistic(first + i) / channels; }
  var m2 = 0.0;
  for (var i = 0u; i < params.group_channels; i++) {
    let distance = statistic(first + i) - mean;
    m2 += statistic(params.channels + first + i) + params.positions * distance * distance;
  }
  return vec2f(mean, inverseSqrt(m2 / (params.positions * channels) + params.eps));
}`,
    body: `if (gid * 4u >= params.channels) { return; }
let m0 = group_moments(gid * 4u);
let m1 = group_moments(gid * 4u + 1u);
let m2 = group_moments(gid * 4u + 2u);
let m3 = group_moments(gid * 4u + 3u);
store_table(gid, vec4f(m0.x, m1.x, m2.x, m3.x));
store_table(params.channels / 4u + gid, vec4f(m0.y, m1.y, m2.y, m3.y) * load_weight(gid));`,
  });
  return {
    kernel,
    params: [positions, channels, groupChannels, trueChannels - groupChannels, eps],
    grid: foldGrid(Math.ceil(channels / 4 / THREADS)),
    flops: 8 * channels * groupChannels,
  };
}

/** What the text of {@linkcode groupNormApply} depends on. */
export interface ApplySpec {
  readonly dtype: DType;
  /** Applies x * sigmoid(x) last. */
  readonly silu: boolean;
  /** Multiplies by and adds what a convolution made of the latent (spatial norm): one more buffer. */
  readonly spatial: boolean;
}

/** The grid the modulation of a spatial norm lies on, and that of the tensor it modulates. */
export interface SpatialGrid {
  /** Frames, height and width of the whole normalised tensor. */
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  /** Frames, height and width of the latent. */
  readonly latentFrames: number;
  readonly latentHeight: number;
  readonly latentWidth: number;
}

/** Shapes of {@linkcode groupNormApply}. */
export interface ApplyShape {
  readonly positions: number;
  readonly channels: number;
  /** Number of x's first position in the whole tensor, when it is processed in slices. */
  readonly firstPosition: number;
  /** Position of y the first result is written to. */
  readonly outputPosition: number;
  /** Given exactly when the spec is spatial. */
  readonly grid?: SpatialGrid;
}

const GRID_PARAMS = ["first_position", "frames", "height", "width", "latent_frames", "latent_height", "latent_width"];

/**
 * Nearest neighbour on the latent grid: output index o reads floor(o * in / out); with an odd number of frames above
 * one, frame 0 reads latent 0 and the others share the remaining latents.
 */
const LATENT_POSITION = `fn latent_position(position: u32) -> u32 {
  let x = position % params.width;
  let y = position / params.width % params.height;
  let t = position / (params.width * params.height);
  let first = select(0u, 1u, params.frames > 1u && params.frames % 2u == 1u);
  let later = first + (max(t, first) - first) * (params.latent_frames - first) / (params.frames - first);
  let frame = select(later, 0u, t < first);
  return (frame * params.latent_height + y * params.latent_height / params.height) * params.latent_width
    + x * params.latent_width / params.width;
}`;

/**
 * Normalises: y = (x - mean) * scale + bias with the table of {@linkcode groupNormTable}, then for a spatial norm y * m
 * + s. Buffers: x [positions, channels], table f32 [2, channels], bias f32 [channels], spatial only: modulation [latent
 * positions, 2 * channels] (m, then s), y with the results from position `outputPosition` on.
 */
export function groupNormApply(spec: ApplySpec, shape: ApplyShape): Launch {
  const { dtype, silu, spatial } = spec;
  const { positions, channels, grid } = shape;
  if (spatial !== (grid !== undefined)) {
    throw new TypeError("Cannot launch group_norm_apply: a latent grid is given exactly when the norm is spatial");
  }
  const blocks = Math.ceil(positions / APPLY_POSITIONS);
  const modulate =
    `let modulation = latent_position(params.first_position + position) * 2u * params.channels4 + channel;
  v = v * load_modulation(modulation) + load_modulation(modulation + params.channels4);`;
  const kernel = buildKernel({
    name: "group_norm_apply",
    spec: { dtype, silu, spatial },
    params: ["positions", "channels4", "blocks", "output_position", ...(spatial ? GRID_PARAMS : [])],
    buffers: [
      { name: "x", dtype },
      { name: "table", dtype: "f32" },
      { name: "bias", dtype: "f32" },
      ...(spatial ? [{ name: "modulation", dtype }] : []),
      { name: "y", dtype },
    ],
    workgroupSize: THREADS,
    ...(spatial ? { declarations: LATENT_POSITION } : {}),
    body: `let block = gid / params.channels4;
let channel = gid % params.channels4;
if (block >= params.blocks) { return; }
let mean = load_table(channel);
let scale = load_table(params.channels4 + channel);
let bias = load_bias(channel);
for (var position = block; position < params.positions; position += params.blocks) {
  var v = (load_x(position * params.channels4 + channel) - mean) * scale + bias;
  ${spatial ? modulate : ""}
  ${silu ? "v = v / (1.0 + exp(-v));" : ""}
  store_y((params.output_position + position) * params.channels4 + channel, v);
}`,
  });
  return {
    kernel,
    params: [
      positions,
      channels / 4,
      blocks,
      shape.outputPosition,
      ...(grid === undefined ? [] : [
        shape.firstPosition,
        grid.frames,
        grid.height,
        grid.width,
        grid.latentFrames,
        grid.latentHeight,
        grid.latentWidth,
      ]),
    ],
    grid: foldGrid(Math.ceil(blocks * (channels / 4) / THREADS)),
    flops: (3 + (spatial ? 2 : 0) + (silu ? 4 : 0)) * positions * channels,
  };
}
