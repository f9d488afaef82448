/**
 * Convolution as implicit GEMM through workgroup memory, for GPUs without reachable matrix units: the tiles of
 * kernels/matrix/gemm_staged.ts over output positions and channels, whose depth runs over the taps of the window and
 * the input channels. A stage gathers what its taps read, so no patch matrix and no upsampled copy exist in memory.
 */
import { foldGrid, type Launch } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import {
  CONV_PARAMS,
  convBuffers,
  convFlops,
  convParams,
  type ConvShape,
  type ConvSpec,
  positionsOf,
} from "./conv_shape.ts";
import {
  stagedDeclarations,
  type StagedOperand,
  stagedResults,
  stagedSums,
  stagedThreads,
  type StagedTile,
} from "./gemm_staged.ts";

/** Rows of A are positions along the depth; B is weights [taps, channels, outputs], along the outputs. */
const LAYOUT = "NN";

/**
 * `read_x(row, tap, channel)`: four channels of the input under tap (frame, row, column) of an output position, zero
 * beside the picture.
 */
const READ = `fn read_x(row: u32, tap: vec3u, channel: u32) -> vec4f {
  let position = min(row, params.positions - 1u);
  let y = position / params.width % params.height * params.stride + tap.y - params.padding;
  let x = position % params.width * params.stride + tap.z - params.padding;
  let frame = ((position / (params.width * params.height) + params.time_offset) >> params.time_shift) + tap.x;
  // What lies left of or above the picture has wrapped around to the largest numbers.
  let inside = y < (params.input_height << params.space_shift) && x < (params.input_width << params.space_shift);
  let row_start = (frame * params.input_height + (y >> params.space_shift)) * params.input_width;
  let at = select(0u, (row_start + (x >> params.space_shift)) * params.channels4 + channel, inside);
  return select(vec4f(0), load_x(at), inside);
}`;

function fetchText({ name }: StagedOperand, { line, deep }: { readonly line: string; readonly deep: string }): string {
  const begin = `fn fetch_${name}(block: u32, first: u32, k4: u32, end: u32) -> mat4x4f {
  let line4 = first + ${line};
  let d4 = min(k4 + ${deep}, end - 1u);
  let inside = k4 + ${deep} < end;`;
  if (name === "a") {
    const column = (q: number) => `select(vec4f(0), read_x(4u * line4 + ${q}u, tap, channel), inside)`;
    return `${READ}
${begin}
  let channel = d4 % params.channels4;
  let number = d4 / params.channels4;
  let tap = vec3u(number / (params.kh * params.kw), number / params.kw % params.kh, number % params.kw);
  return transpose(mat4x4f(${unroll(4, column, ", ")}));
}`;
  }
  const column = (q: number) => `select(vec4f(0), load_weight(at + ${q}u * params.outputs4), inside)`;
  return `${begin}
  let at = params.depth + 4u * d4 * params.outputs4 + min(line4, params.outputs4 - 1u);
  return mat4x4f(${unroll(4, column, ", ")});
}`;
}

function body({ bias, residual, accumulate }: ConvSpec, tile: StagedTile): string {
  const terms = [bias ? "shift" : "", residual ? "load_residual(at)" : "", accumulate ? "load_y(at)" : ""];
  const added = terms.filter((term) => term !== "").map((term) => ` + ${term}`).join("");
  return `let m4 = wg / params.across * ${tile.rows / 4}u;
let n4 = wg % params.across * ${tile.columns / 4}u;
if (4u * m4 >= params.positions) { return; }
let k_first = 0u;
let k_end = params.kt * params.kh * params.kw * params.channels4;
${stagedSums(LAYOUT, tile)}
${
    stagedResults(
      tile,
      { rows: "params.positions", columns4: "params.outputs4" },
      bias ? "let shift = load_bias(column);" : "",
      (row, sum) => `let at = (${row}) * params.outputs4 + column; store_y(at, ${sum}${added});`,
    )
  }`;
}

/** The launch of a tile. */
export function convStaged(spec: ConvSpec, shape: ConvShape, tile: StagedTile): Launch {
  const across = Math.ceil(shape.outputs / tile.columns);
  return {
    kernel: buildKernel({
      name: "conv_staged",
      spec: { ...spec, ...tile },
      params: CONV_PARAMS,
      buffers: convBuffers(spec),
      workgroupSize: stagedThreads(tile),
      declarations: () => stagedDeclarations(LAYOUT, tile, fetchText),
      body: () => body(spec, tile),
    }),
    params: convParams(shape, across),
    grid: foldGrid(Math.ceil(positionsOf(shape) / tile.rows) * across),
    flops: convFlops(shape),
  };
}
