/**
 * How texts spell matrix units: a subgroup holds whole matrices in its registers and multiplies them in one
 * instruction. What lies where in the registers is the driver's secret, so elements are reached through workgroup
 * memory alone. Texts with units use no subgroup arithmetic: a driver of NVIDIA (595) crashes on programs that declare
 * both (github.com/kvark/blade/issues/333).
 */
import type { BufferSpec, DType, MatrixShape, Target } from "./kernel.ts";

/** Sizes of one unit product: [m, k] x [k, n] is added to [m, n]. Operands are f16, sums f32. */
export type Unit = Pick<MatrixShape, "m" | "n" | "k">;

/**
 * The unit of a device that does most per instruction, hence fewest loads per product; undefined where there is none or
 * operands may not be rounded to f16.
 */
export function unitOf({ matrix, mixed, f16 }: Target): Unit | undefined {
  if (!mixed || !f16) return undefined;
  const work = ({ m, n, k }: Unit) => m * n * k;
  const [best] = matrix.filter(({ result }) => result === "f32").sort((a, b) => work(b) - work(a));
  return best === undefined ? undefined : { m: best.m, n: best.n, k: best.k };
}

/** The binding of an operand: f16 is copied to the units as it is stored. */
export function unitOperand(name: string, dtype: DType): BufferSpec {
  return { name, dtype, ...(dtype === "f16" ? { half: true } : {}) };
}

/** How a matrix lies in an array: its rows are consecutive, or its columns are. */
export type Major = "row_major" | "col_major";

/** Type of a sum. WGSL names columns first. */
function sumType({ m, n }: Unit): string {
  return `subgroup_matrix_result<f32, ${n}, ${m}>`;
}

/**
 * Declares a sum that holds zeros. Written out, as Dawn 0.6.2 leaves a sum declared in a loop what it was the time
 * before.
 */
export function emptySum(unit: Unit, name: string): string {
  return `var ${name} = ${sumType(unit)}();`;
}

/**
 * A left operand [m, k] read from the f16 array `from` at `offset`, `stride` elements from row to row (or column to
 * column).
 */
export function loadLeft({ m, k }: Unit, from: string, offset: string, major: Major, stride: number): string {
  return `subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, ${major}>(&${from}, ${offset}, ${stride}u)`;
}

/** A right operand [k, n], as {@linkcode loadLeft}. */
export function loadRight({ n, k }: Unit, from: string, offset: string, major: Major, stride: number): string {
  return `subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, ${major}>(&${from}, ${offset}, ${stride}u)`;
}

/** A sum [m, n] read from the f32 array `from`, row by row. */
export function loadSum(unit: Unit, from: string, offset: string, stride: number): string {
  return `subgroupMatrixLoad<${sumType(unit)}, row_major>(&${from}, ${offset}, ${stride}u)`;
}

/** Writes a sum to the f32 array `to`, row by row. */
export function storeSum(to: string, offset: string, sum: string, stride: number): string {
  return `subgroupMatrixStore<row_major>(&${to}, ${offset}, ${sum}, ${stride}u);`;
}

/** Adds left x right to `sum`. */
export function addProduct(sum: string, left: string, right: string): string {
  return `${sum} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum});`;
}

/**
 * Passes sums through workgroup memory, one of every subgroup at a time: written to the array `sums` at the subgroup's
 * own [m, n], worked on by all threads with `work`, which finds the number of the sum in `unit`, and read back when
 * `returns`. Subgroups from `subgroups` on have none: where the driver picks smaller subgroups than the largest, there
 * are more than a tile has parts. A loop, as the work unrolled for every sum compiles minutes on the software driver
 * and fills the instruction cache of a GPU.
 */
export function passSums(
  unit: Unit,
  subgroups: number,
  sums: readonly string[],
  { work, returns }: { readonly work: string; readonly returns: boolean },
): string {
  const offset = `subgroup_id * ${unit.m * unit.n}u`;
  const choose = (text: (sum: string) => string) =>
    `if (subgroup_id < ${subgroups}u) { switch (unit) {
${sums.map((sum, i) => `case ${i}u: { ${text(sum)} }`).join("\n")}
default: {}
} }`;
  return `for (var unit = 0u; unit < ${sums.length}u; unit++) {
${choose((sum) => storeSum("sums", offset, sum, unit.n))}
workgroupBarrier();
${work}
workgroupBarrier();
${returns ? `${choose((sum) => `${sum} = ${loadSum(unit, "sums", offset, unit.n)};`)}\nworkgroupBarrier();` : ""}
}`;
}

/**
 * Elements between rows of an f16 array in workgroup memory that holds `width` of them: eight more, so that 16-byte
 * pieces of eight consecutive rows fall into different banks for every width that is a multiple of 16, and rows stay
 * aligned to 16 bytes.
 */
export function paddedStride(width: number): number {
  return width + 8;
}
