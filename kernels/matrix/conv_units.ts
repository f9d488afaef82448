/**
 * Convolution as implicit GEMM on matrix units: rows are output positions, columns output channels, the depth runs over
 * the taps of the window and the input channels. Operands are rounded to f16 under a power of two per position and per
 * output channel (kernels/core/half_scales.ts), sums are f32.
 */
import { foldGrid, type Launch } from "../core/kernel.ts";
import { unitOperand } from "../core/units.ts";
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
import { alongWidth } from "./gemm_units.ts";
import { unitThreads, type UnitTile } from "./unit_tile.ts";
import { type Operand, stageOf, unitBody, unitDeclarations, type UnitProduct } from "./unit_text.ts";

/**
 * The input: every thread walks the taps with its own counters, as its place in a stage is its place among the channels
 * of a tap; a division per stage and thread would cost as much as the copying.
 */
function gathered(tile: UnitTile, { x }: ConvSpec): Operand {
  const { groups, step } = stageOf(tile, { name: "a", along: "depth" });
  const zero = x === "f16" ? "vec4<f16>()" : "vec4f()";
  return {
    name: "a",
    along: "depth",
    dtype: x,
    setup: `${placeRows(groups, step, "a_line")}
var channel4 = a_four;
var dt = 0u;
var dy = 0u;
var dx = 0u;`,
    fetch: `while (channel4 >= params.channels4) {
channel4 -= params.channels4;
dx++;
if (dx == params.kw) { dx = 0u; dy++; }
if (dy == params.kh) { dy = 0u; dt++; }
}
{
${gatherRows(groups)}
${unroll(groups, (i) => `a${i} = select(${zero}, load_x(at${i} + channel4), inside${i} && dt < params.kt);`)}
}
channel4 += ${tile.depth / 4}u;`,
  };
}

function finishText({ residual, accumulate }: ConvSpec): string {
  const terms = ["sum + shift", residual ? "load_residual(at)" : "", accumulate ? "load_y(at)" : ""];
  return `fn finish(part: u32, row: u32, col4: u32, sum: vec4f, shift: vec4f) {
  let at = row * params.outputs4 + col4;
  store_y(at, ${terms.filter((term) => term !== "").join(" + ")});
}`;
}

/** The launch of a tile. */
export function convUnits(spec: ConvSpec, shape: ConvShape, tile: UnitTile): Launch {
  const { channels, outputs, window: [kt, kh, kw] } = shape;
  const product: UnitProduct = {
    tile,
    a: gathered(tile, spec),
    b: alongWidth(tile, "b", spec.weight, { load: "load_weight", start: "params.depth + " }),
  };
  const positions = positionsOf(shape);
  const k = kt * kh * kw * channels;
  const across = Math.ceil(outputs / tile.columns);
  const tiles = Math.ceil(positions / tile.rows) * across;
  return {
    kernel: buildKernel({
      name: "conv_units",
      spec: { ...spec, ...tile },
      params: [...CONV_PARAMS, "m", "n4", "k", "k4", "tiles"],
      buffers: convBuffers(spec).map((buffer) =>
        buffer.name === "x" || buffer.name === "weight" ? unitOperand(buffer.name, buffer.dtype) : buffer
      ),
      workgroupSize: unitThreads(tile),
      subgroupId: true,
      declarations: () => `${finishText(spec)}\n${unitDeclarations(product)}`,
      body: () => unitBody(product, { bias: spec.bias, parts: false }),
    }),
    params: [...convParams(shape, across), positions, outputs / 4, k, k / 4, tiles],
    grid: foldGrid(tiles),
    flops: convFlops(shape),
  };
}
