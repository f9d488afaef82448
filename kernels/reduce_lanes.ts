/** Sums across lanes in a fixed order: xor-shuffle trees over eight lanes, or one thread alone where subgroups are missing. */
import type { Target } from "./kernel.ts";
import { unroll } from "./wgsl.ts";

/** Threads of every row and reduction kernel: a multiple of 32, one-dimensional. */
export const THREADS = 64;

/** Lanes that share one row: eight, whatever larger subgroup they lie in, or one without subgroup operations. */
export function lanesPerRow(target: Target): 1 | 8 {
  return target.subgroups >= 8 ? 8 : 1;
}

/** Statements that replace each variable by its sum over the lanes of a row; every lane ends with the same bits. */
export function sumLanes(lanes: 1 | 8, ...variables: readonly string[]): string {
  if (lanes === 1) return "";
  return variables.map((v) => [1, 2, 4].map((bit) => `${v} = ${v} + subgroupShuffleXor(${v}, ${bit}u);`).join(" "))
    .join(
      "\n",
    );
}

/** Workgroup variable that {@linkcode sumWorkgroup} needs. */
export function workgroupSlots(lanes: 1 | 8): string {
  return `var<workgroup> slots: array<vec4f, ${THREADS / lanes}>;`;
}

/** Statements that leave in `total` of thread 0 the sum of the vec4f `variable` over the workgroup. */
export function sumWorkgroup(lanes: 1 | 8, variable: string): string {
  return `${sumLanes(lanes, variable)}
  if (li % ${lanes}u == 0u) { slots[li / ${lanes}u] = ${variable}; }
  workgroupBarrier();
  var total = vec4f(0);
  if (li == 0u) {
${unroll(THREADS / lanes, (i) => `    total = total + slots[${i}];`)}
  }`;
}
