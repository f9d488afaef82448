/**
 * Sums over groups of eight neighbouring threads and over workgroups, in a fixed order. Eight lanes read 128 contiguous
 * bytes, a cache line, and fit every subgroup size that is a multiple of eight. Where subgroup operations are missing,
 * workgroup memory takes their place with the same order of additions, so both texts give the same bits.
 */
import { type Target, THREADS } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";

/** Lanes that share one row or one sum. */
export const LANES = 8;

const GROUPS = THREADS / LANES;

/**
 * True when the text may use subgroup operations; belongs into the spec of every kernel that includes {@linkcode
 * laneSums}.
 */
export function hasSubgroups(target: Target): boolean {
  return target.subgroups >= LANES;
}

/**
 * Declares `lane_sum(v: f32, li)` and `lane_sum4(v: vec4f, li)`: the sum over the eight lanes around `li`, in all of
 * them. Every thread of the workgroup must call them.
 */
export function laneSums(target: Target): string {
  if (hasSubgroups(target)) {
    const tree = (name: string, type: string) =>
      `fn ${name}(value: ${type}, li: u32) -> ${type} {
  var v = value;
  v = v + subgroupShuffleXor(v, 1u);
  v = v + subgroupShuffleXor(v, 2u);
  return v + subgroupShuffleXor(v, 4u);
}`;
    return `var<workgroup> slots: array<vec4f, ${GROUPS}>;\n${tree("lane_sum", "f32")}\n${tree("lane_sum4", "vec4f")}`;
  }
  return `var<workgroup> slots: array<vec4f, ${THREADS}>;
fn lane_sum4(v: vec4f, li: u32) -> vec4f {
  slots[li] = v;
  workgroupBarrier();
  let at = li - li % ${LANES}u;
  let low = (slots[at] + slots[at + 1u]) + (slots[at + 2u] + slots[at + 3u]);
  let sum = low + ((slots[at + 4u] + slots[at + 5u]) + (slots[at + 6u] + slots[at + 7u]));
  workgroupBarrier();
  return sum;
}
fn lane_sum(v: f32, li: u32) -> f32 { return lane_sum4(vec4f(v, 0, 0, 0), li).x; }`;
}

/** Statements that leave in `total` of thread 0 the sum of the vec4f `variable` over the workgroup. */
export function sumWorkgroup(variable: string): string {
  return `  let group_sum = lane_sum4(${variable}, li);
  if (li % ${LANES}u == 0u) { slots[li / ${LANES}u] = group_sum; }
  workgroupBarrier();
  var total = vec4f(0);
  if (li == 0u) {
${unroll(GROUPS, (i) => `    total = total + slots[${i}];`)}
  }`;
}
