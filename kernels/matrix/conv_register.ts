/**
 * Convolution as implicit GEMM from registers: rows are output positions (frame, y, x), columns are output channels,
 * the depth runs over the taps of the window and the input channels. The gather for padding, stride and nearest
 * upsampling is part of the loader, so no patch matrix and no upsampled copy exist in memory.
 */
import { foldGrid, type Launch } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { gatherRows, placeRows } from "./conv_gather.ts";
import {
  CONV_PARAMS,
  convBuffers,
  convFlops,
  convParams,
  type ConvShape,
  type ConvSpec,
  positionsOf,
} from "./conv_shape.ts";

/** How the outputs are divided: a thread owns `rows` positions of `vectors` times four channels. */
export interface ConvTile {
  readonly rows: number;
  readonly vectors: number;
  /** Threads side by side along the channels, which load the rows together. */
  readonly lanes: number;
  /**
   * How lanes hand their rows round: from constant lanes of the whole subgroup, or from lanes of its part; one lane
   * needs neither.
   */
  readonly share: "broadcast" | "shuffle" | "none";
  /** Threads of a workgroup. */
  readonly threads: number;
}

const C = ["x", "y", "z", "w"];

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
${placeRows(loads, lanes, "lane_row")}
${unroll(rows, (row) => unroll(vectors, (j) => `var c${row}_${j} = vec4f(0);`, " "))}
var depth = params.depth;
for (var dt = 0u; dt < params.kt; dt++) {
for (var dy = 0u; dy < params.kh; dy++) {
for (var dx = 0u; dx < params.kw; dx++) {
${gatherRows(loads)}
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

/** The launch of a tile. */
export function convRegister(spec: ConvSpec, shape: ConvShape, tile: ConvTile): Launch {
  const across = Math.ceil(shape.outputs / 4 / (tile.lanes * tile.vectors));
  const tiles = Math.ceil(positionsOf(shape) / tile.rows) * across;
  return {
    kernel: buildKernel({
      name: "conv",
      spec: { ...spec, ...tile },
      params: CONV_PARAMS,
      buffers: convBuffers(spec),
      workgroupSize: tile.threads,
      lane: tile.share !== "none",
      body: () => convBody(spec, tile),
    }),
    params: convParams(shape, across),
    grid: foldGrid(Math.ceil(tiles * tile.lanes / tile.threads)),
    flops: convFlops(shape),
  };
}
