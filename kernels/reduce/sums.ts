/** Bias and gate gradients (column sums), and sums of squares of flat buffers. */
import { type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { solve } from "../core/variants.ts";
import {
  columnFamily,
  type ColumnShape,
  matrixColumns,
  probeMatrix,
  probeSequence,
  type RowsShape,
} from "./columns.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "./lanes.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Storage of a matrix that is summed, and whether the sums are added to what `out` holds. */
export interface ColumnSumsSpec extends Readonly<Record<string, DType | boolean>> {
  readonly g: DType;
  readonly accumulate: boolean;
}

/** Where the gate gradients go: element offsets inside one row of f32 [batch, stride]. */
export interface GateShape extends ColumnShape {
  readonly stride: number;
  readonly gateText: number;
  readonly gateVideo: number;
}

/** Element types of {@linkcode gateSums}. */
export interface GateSumsSpec extends Readonly<Record<string, DType>> {
  readonly g: DType;
  readonly y: DType;
}

/** The families of the bias and gate gradients. */
export const columnFamilies = {
  columnSums: columnFamily<ColumnSumsSpec, RowsShape>({
    name: "column_sums",
    kernel: ({ g }) => ({
      inputs: [{ name: "g", dtype: g }],
      sums: 1,
      perRow: "s0 = s0 + load_g(at);",
      flopsPerElement: 1,
    }),
    columns: matrixColumns,
    output: ({ accumulate }) => ({ accumulate, total: true, stride: 0, textOffset: 0, videoOffset: 0 }),
    elements: ({ width }) => ({ out: width }),
    probe: probeMatrix,
  }),
  gateSums: columnFamily<GateSumsSpec, GateShape>({
    name: "gate_sums",
    kernel: ({ g, y }) => ({
      inputs: [{ name: "g", dtype: g }, { name: "y", dtype: y }],
      sums: 1,
      perRow: "s0 = s0 + load_g(at) * load_y(at);",
      flopsPerElement: 2,
    }),
    columns: ({ batch, sequence, textRows, width }) => ({ batch, sequence, textRows, width }),
    output: (_, { stride, gateText, gateVideo }) => {
      return { accumulate: false, total: false, stride, textOffset: gateText, videoOffset: gateVideo };
    },
    elements: ({ batch, stride }) => ({ out: batch * stride }),
    probe: (shape) => ({ ...shape, ...probeSequence(shape) }),
  }),
};

/** Sum over the rows of a matrix. Operands: g, out (f32 [width]). */
export function columnSums(target: Target, spec: ColumnSumsSpec, shape: RowsShape): Work {
  return solve(columnFamilies.columnSums, target, spec, shape);
}

/**
 * Gate gradient: sums over the rows of each segment of g * y, at the gate chunks of every batch element. Operands: g,
 * y, out (f32 [batch, stride]).
 */
export function gateSums(target: Target, spec: GateSumsSpec, shape: GateShape): Work {
  return solve(columnFamilies.gateSums, target, spec, shape);
}

/** Vectors that one thread of {@linkcode sumOfSquares} adds, four at a time. */
const VECTORS_PER_THREAD = 64;

/** Slots (of four f32 each) that {@linkcode sumOfSquares} writes for `elements` values. */
export function squareSlots(elements: number): number {
  return Math.ceil(fours("values", elements) / (THREADS * VECTORS_PER_THREAD));
}

/**
 * Sum of squares of a flat buffer, one slot of four partial sums per workgroup, written from slot `slot` on so that
 * several buffers share one list. Buffers: x, partials (f32 [slots, 4]).
 */
export function sumOfSquares(
  target: Target,
  spec: { readonly x: DType },
  shape: { readonly elements: number; readonly slot: number },
): Launch {
  const slots = squareSlots(shape.elements);
  return {
    kernel: buildKernel({
      name: "sum_of_squares",
      spec: { x: spec.x, subgroups: hasSubgroups(target) },
      params: ["count4", "slots", "slot"],
      buffers: [{ name: "x", dtype: spec.x }, { name: "partials", dtype: "f32" }],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `
${unroll(4, (i) => `  var s${i} = vec4f(0);`)}
  let start = wg * ${THREADS * VECTORS_PER_THREAD}u + li;
  for (var i = 0u; i < ${VECTORS_PER_THREAD}u; i += 4u) {
${
        unroll(4, (i) =>
          `    { let at = start + (i + ${i}u) * ${THREADS}u;
      if (at < params.count4) { let v = load_x(at); s${i} = s${i} + v * v; } }`)
      }
  }
  var sum = (s0 + s1) + (s2 + s3);
${sumWorkgroup("sum")}
  if (li == 0u && wg < params.slots) { store_partials(params.slot + wg, total); }`,
    }),
    params: [shape.elements / 4, slots, shape.slot],
    grid: foldGrid(slots),
    flops: 2 * shape.elements,
  };
}

/** Statements that add `params.slots` vectors of `partials` into `total` of thread 0, for kernels of one workgroup. */
export function sumSlots(): string {
  return `  var sum = vec4f(0);
  for (var i = li; i < params.slots; i += ${THREADS}u) { sum = sum + load_partials(i); }
${sumWorkgroup("sum")}`;
}

/** out[0] = scale * sum of all partials (f32 [slots, 4]); out[1..3] = 0. Buffers: partials, out (f32 [4]). */
export function finishSum(target: Target, shape: { readonly slots: number; readonly scale: number }): Launch {
  return {
    kernel: buildKernel({
      name: "finish_sum",
      spec: { subgroups: hasSubgroups(target) },
      params: ["slots", "scale:f32"],
      buffers: [{ name: "partials", dtype: "f32" }, { name: "out", dtype: "f32" }],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${sumSlots()}
  if (li == 0u) { store_out(0u, vec4f(dot(total, vec4f(1)) * params.scale, 0, 0, 0)); }`,
    }),
    params: [shape.slots, shape.scale],
    grid: [1, 1, 1],
    flops: 4 * shape.slots,
  };
}
