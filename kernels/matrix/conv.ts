/**
 * Convolution as implicit GEMM: rows are output positions (frame, y, x), columns are output channels, the depth runs over
 * the taps of the window and the input channels. The gather for padding, stride and nearest upsampling is part of the loader,
 * so no patch matrix and no upsampled copy exist in memory.
 *
 * Layouts: input [frames, h, w, channels], weights [kt, kh, kw, channels, outputs], output [frames, h, w, outputs]; channels
 * and outputs are multiples of four. A causal convolution finds its kt - 1 earlier frames in front of the input.
 */
import { type BufferSpec, type DType, foldGrid, type Kernel, type Launch, type Target } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** What the text of a convolution depends on. */
export interface ConvSpec {
  /** Storage of the input. */
  readonly x: DType;
  readonly weight: DType;
  /** Storage of output and residual. */
  readonly y: DType;
  /** Adds an f32 vector of one value per output channel. */
  readonly bias: boolean;
  /** Adds a tensor of the output's shape. */
  readonly residual: boolean;
  /** Adds to what the output holds, for windows whose taps are split over launches. */
  readonly accumulate: boolean;
}

/** Shapes of one launch. */
export interface ConvShape {
  /** Channels of input and output, multiples of four. */
  readonly channels: number;
  readonly outputs: number;
  /** Frames, height and width of the output. */
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  /** Height and width of the input as it is stored. */
  readonly inputHeight: number;
  readonly inputWidth: number;
  /** Window: frames, rows, columns. */
  readonly window: readonly [number, number, number];
  /** Frame of the weights the window begins with, when its frames are split over launches. */
  readonly weightFrame: number;
  /** Step between windows in space. */
  readonly stride: number;
  /** Rows of zeros above (and columns left of) the input; below and right as many as the output size reaches. */
  readonly padding: number;
  /** log2 of the nearest upsampling in space that is applied before the window. */
  readonly spaceShift: number;
  /** Output frame t starts at input frame (t + timeOffset) >> timeShift. */
  readonly timeShift: number;
  readonly timeOffset: number;
}

/** How the outputs are divided: a thread owns `rows` positions of `vectors` times four channels. */
export interface ConvTile {
  readonly rows: number;
  readonly vectors: number;
  /** Threads side by side along the channels, which load the rows together. */
  readonly lanes: number;
  /** How lanes hand their rows round: from constant lanes of the whole subgroup, or from lanes of its part; one lane needs neither. */
  readonly share: "broadcast" | "shuffle" | "none";
  /** Threads of a workgroup. */
  readonly threads: number;
}

/** Without sharing, 8 rows balance loads against registers. */
const PLAIN: ConvTile = { rows: 8, vectors: 1, lanes: 1, share: "none", threads: 64 };

/**
 * On 8 lanes a value is handed round with a constant-lane broadcast, free on llvmpipe, and a workgroup of 8 threads shares its rows
 * whatever size the driver picks; taller tiles gain a tenth there but double the time to compile. From 16 lanes up the shuffle
 * unit is the narrower one, so each shuffled value feeds eight multiply-adds, and 16 lanes cover 128 channels, the smallest width of
 * the released models.
 */
const BROADCAST: ConvTile = { rows: 32, vectors: 1, lanes: 8, share: "broadcast", threads: 8 };
const SHUFFLE: ConvTile = { rows: 16, vectors: 2, lanes: 16, share: "shuffle", threads: 64 };

/** Below a quarter of a tile's width, sharing rows wastes more lanes than it saves loads. */
function tileOf({ subgroups }: Target, outputs: number): ConvTile {
  if (subgroups === 0) return PLAIN;
  const shared = subgroups < 16 ? BROADCAST : SHUFFLE;
  return outputs < shared.lanes * shared.vectors ? PLAIN : shared;
}

const PARAMS = [
  "positions",
  "height",
  "width",
  "input_height",
  "input_width",
  "channels4",
  "outputs4",
  "across",
  "kt",
  "kh",
  "kw",
  "stride",
  "padding",
  "space_shift",
  "time_shift",
  "time_offset",
  "depth",
];

const C = ["x", "y", "z", "w"];

function gather(loads: number): string {
  return `let tap_y = i32(dy) - i32(params.padding);
let tap_x = i32(dx) - i32(params.padding);
${
    unroll(loads, (i) =>
      `let y${i} = u32(i32(oy${i}) + tap_y);
let x${i} = u32(i32(ox${i}) + tap_x);
let inside${i} = known${i} && y${i} < (params.input_height << params.space_shift) && x${i} < (params.input_width << params.space_shift);
let at${i} = select(0u, (((frame${i} + dt) * params.input_height + (y${i} >> params.space_shift)) * params.input_width + (x${i} >> params.space_shift)) * params.channels4, inside${i});`)
  }`;
}

function rowSetup({ rows, lanes }: ConvTile): string {
  return unroll(rows / lanes, (i) =>
    `let row${i} = m0 + ${i * lanes}u + lane_row;
let known${i} = row${i} < params.positions;
let oy${i} = (row${i} / params.width % params.height) * params.stride;
let ox${i} = (row${i} % params.width) * params.stride;
let frame${i} = (row${i} / (params.width * params.height) + params.time_offset) >> params.time_shift;`);
}

/** The element at depth `k` of a tile's row, held by the lane that loaded it. */
function element(row: number, k: number, { lanes, share }: ConvTile): string {
  const value = `a${Math.floor(row / lanes)}.${C[k]}`;
  if (share === "none") return value;
  if (share === "broadcast") return `subgroupBroadcast(${value}, ${row % lanes}u)`;
  return `subgroupShuffle(${value}, first_lane + ${row % lanes}u)`;
}

function multiply(tile: ConvTile): string {
  return unroll(tile.rows, (row) =>
    `{ ${unroll(4, (k) => `let s${k} = ${element(row, k, tile)};`, " ")}
${unroll(tile.vectors, (j) => `c${row}_${j} = c${row}_${j} + (${unroll(4, (k) => `s${k} * b${j}_${k}`, " + ")});`)} }`);
}

function epilogue(spec: ConvSpec, { rows, vectors, lanes }: ConvTile): string {
  const terms = (row: number, j: number) =>
    [
      `c${row}_${j}`,
      spec.bias ? `bias${j}` : "",
      spec.residual ? "load_residual(at)" : "",
      spec.accumulate ? "load_y(at)" : "",
    ].filter((term) => term !== "").join(" + ");
  return unroll(vectors, (j) =>
    `if (n + ${j * lanes}u < params.outputs4) {
${spec.bias ? `let bias${j} = load_bias(n${j});` : ""}
${
      unroll(rows, (row) =>
        `if (m0 + ${row}u < params.positions) {
  let at = (m0 + ${row}u) * params.outputs4 + n${j};
  store_y(at, ${terms(row, j)});
}`)
    }
}`);
}

function convBody(spec: ConvSpec, tile: ConvTile): string {
  const { rows, vectors, lanes } = tile;
  const loads = rows / lanes;
  return `let tile = gid / ${lanes}u;
let m0 = (tile / params.across) * ${rows}u;
let n = (tile % params.across) * ${lanes * vectors}u + li % ${lanes}u;
${unroll(vectors, (j) => `let n${j} = min(n + ${j * lanes}u, params.outputs4 - 1u);`)}
let lane_row = li % ${lanes}u;
${tile.share === "shuffle" ? `let first_lane = lane - lane % ${lanes}u;` : ""}
${rowSetup(tile)}
${unroll(rows, (row) => unroll(vectors, (j) => `var c${row}_${j} = vec4f(0);`, " "))}
var depth = params.depth;
for (var dt = 0u; dt < params.kt; dt++) {
for (var dy = 0u; dy < params.kh; dy++) {
for (var dx = 0u; dx < params.kw; dx++) {
${gather(loads)}
for (var k = 0u; k < params.channels4; k++) {
${unroll(vectors, (j) => unroll(4, (k) => `let b${j}_${k} = load_weight(depth + ${k}u * params.outputs4 + n${j});`))}
depth += 4u * params.outputs4;
${unroll(loads, (i) => `let a${i} = select(vec4f(0), load_x(at${i} + k), inside${i});`)}
${multiply(tile)}
}
}
}
}
${epilogue(spec, tile)}`;
}

function convKernel(spec: ConvSpec, tile: ConvTile): Kernel {
  const buffers: BufferSpec[] = [
    { name: "x", dtype: spec.x },
    { name: "weight", dtype: spec.weight },
    ...(spec.bias ? [{ name: "bias", dtype: "f32" } as const] : []),
    ...(spec.residual ? [{ name: "residual", dtype: spec.y }] : []),
    { name: "y", dtype: spec.y },
  ];
  return buildKernel({
    name: "conv",
    spec: { ...spec, ...tile },
    params: PARAMS,
    buffers,
    workgroupSize: tile.threads,
    lane: tile.share !== "none",
    body: () => convBody(spec, tile),
  });
}

/**
 * Launches one convolution. Buffers: x [frames, inputHeight, inputWidth, channels] (enough frames for the window of the last
 * output frame), weight [kt, kh, kw, channels, outputs], bias [outputs] f32, residual and y [frames, height, width, outputs].
 *
 * @throws {RangeError} when channels are not multiples of four.
 */
export function convolution(
  target: Target,
  spec: ConvSpec,
  shape: ConvShape,
  tile: ConvTile = tileOf(target, shape.outputs),
): Launch {
  const { channels, outputs, frames, height, width, window: [kt, kh, kw] } = shape;
  if (channels % 4 !== 0 || outputs % 4 !== 0) {
    throw new RangeError(
      `Cannot launch a convolution of ${channels} to ${outputs} channels: both must be multiples of 4`,
    );
  }
  const positions = frames * height * width;
  const tilesN = Math.ceil(outputs / 4 / (tile.lanes * tile.vectors));
  const tiles = Math.ceil(positions / tile.rows) * tilesN;
  return {
    kernel: convKernel(spec, tile),
    params: [
      positions,
      height,
      width,
      shape.inputHeight,
      shape.inputWidth,
      channels / 4,
      outputs / 4,
      tilesN,
      kt,
      kh,
      kw,
      shape.stride,
      shape.padding,
      shape.spaceShift,
      shape.timeShift,
      shape.timeOffset,
      shape.weightFrame * kh * kw * channels * outputs / 4,
    ],
    grid: foldGrid(Math.ceil(tiles * tile.lanes / tile.threads)),
    flops: 2 * positions * outputs * channels * kt * kh * kw,
  };
}
