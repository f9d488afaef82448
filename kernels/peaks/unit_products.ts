/** The ceiling of matrix units: products of matrices in registers, as multiply_adds.ts has it for other arithmetic. */
import { foldGrid } from "../core/kernel.ts";
import { addProduct, emptySum, loadLeft, loadRight, passSums, type Unit } from "../core/units.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import type { Ceiling } from "./multiply_adds.ts";

/** Subgroups of a workgroup: one for each scheduler of an NVIDIA multiprocessor. */
const SUBGROUPS = 4;

/** Left and right matrices of a subgroup; each pair has a sum, so that eight products are under way at a time. */
const LEFT = 2;
const RIGHT = 4;

/** Products of each sum; sums of small whole numbers, so they are exact in f32. */
const ROUNDS = 1024;

/** Whole numbers, different from one matrix to the next: equal ones would be multiplied once. */
const leftAt = (i: number): number => (i * 7) % 5 - 2;
const rightAt = (i: number): number => (i * 3) % 7 - 3;

/** Element (row, column) of the products of every left with every right matrix, summed. */
function productAt({ m, n, k }: Unit, row: number, column: number): number {
  let sum = 0;
  for (let i = 0; i < LEFT; i++) {
    for (let j = 0; j < RIGHT; j++) {
      for (let d = 0; d < k; d++) sum += leftAt((i * m + row) * k + d) * rightAt((j * k + d) * n + column);
    }
  }
  return sum;
}

/** Eight independent sums of products per subgroup, whose operands are loaded once. Subgroups have up to `lanes`. */
export function unitProducts(unit: Unit, lanes: number, workgroups: number): Ceiling {
  const { m, n, k } = unit;
  const threads = SUBGROUPS * lanes;
  const size = SUBGROUPS * m * n;
  const pairs = (text: (i: number, j: number) => string) => unroll(LEFT, (i) => unroll(RIGHT, (j) => text(i, j)));
  const names = Array.from({ length: LEFT * RIGHT }, (_, at) => `sum${Math.floor(at / RIGHT)}_${at % RIGHT}`);
  const fill = (name: string, count: number, value: string) =>
    `for (var i = li; i < ${count}u; i += ${threads}u) { ${name}[i] = f16(${value}); }`;
  const kernel = buildKernel({
    name: "peak_units",
    spec: { m, n, k, lanes },
    params: ["steps"],
    buffers: [{ name: "c", dtype: "f32" }],
    workgroupSize: threads,
    subgroupId: true,
    declarations: `var<workgroup> left: array<f16, ${LEFT * m * k}>;
var<workgroup> right: array<f16, ${RIGHT * k * n}>;
var<workgroup> sums: array<f32, ${size}>;
var<workgroup> totals: array<vec4f, ${size / 4}>;`,
    body: `${fill("left", LEFT * m * k, "i32(i * 7u % 5u) - 2")}
${fill("right", RIGHT * k * n, "i32(i * 3u % 7u) - 3")}
workgroupBarrier();
${unroll(LEFT, (i) => `let a${i} = ${loadLeft(unit, "left", `${i * m * k}u`, "row_major", k)};`)}
${unroll(RIGHT, (j) => `let b${j} = ${loadRight(unit, "right", `${j * k * n}u`, "row_major", n)};`)}
${names.map((name) => emptySum(unit, name)).join("\n")}
for (var step = 0u; step < params.steps; step++) {
${unroll(2, () => pairs((i, j) => addProduct(`sum${i}_${j}`, `a${i}`, `b${j}`)))}
}
${
      passSums(unit, SUBGROUPS, names, {
        work: `for (var i = li; i < ${size / 4}u; i += ${threads}u) {
  totals[i] += vec4f(sums[4u * i], sums[4u * i + 1u], sums[4u * i + 2u], sums[4u * i + 3u]);
}`,
        returns: false,
      })
    }
for (var i = li; i < ${size / 4}u; i += ${threads}u) { store_c(wg * ${size / 4}u + i, totals[i]); }`,
  });
  const products = workgroups * SUBGROUPS * LEFT * RIGHT * ROUNDS;
  return {
    launch: { kernel, params: [ROUNDS / 2], grid: foldGrid(workgroups), flops: 2 * m * n * k * products },
    results: workgroups * size,
    expected: (at) => ROUNDS * productAt(unit, Math.floor(at % (m * n) / n), at % n),
  };
}
