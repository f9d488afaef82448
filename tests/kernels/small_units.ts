/**
 * Tiles of matrix units so small that the software driver compiles a product in two seconds and an attention kernel in five; tiles
 * of the size that cards want take a minute, and their texts differ in numbers alone.
 */
import { KEY_VALUE_UNITS, QUERY_UNITS } from "../../kernels/attention/backward_units.ts";
import { FORWARD_UNITS } from "../../kernels/attention/forward_units.ts";
import type { AttentionTile, UnitsText } from "../../kernels/attention/unit_tile.ts";
import type { Pass } from "../../kernels/attention/shape.ts";
import type { Target } from "../../kernels/core/kernel.ts";
import { type Unit, unitOf } from "../../kernels/core/units.ts";
import type { UnitTile } from "../../kernels/matrix/unit_tile.ts";

/** The units of the software driver, which texts for larger ones are rewritten to. */
const SOFTWARE: Unit = { m: 8, n: 8, k: 8 };

/** The device's units, or what stands for them where a test is skipped. */
function unitFor(target: Target): Unit {
  return unitOf({ ...target, mixed: true }) ?? SOFTWARE;
}

/** Threads of the largest subgroup, or what stands for them. */
function lanesOf({ subgroupMax }: Target): number {
  return Math.max(8, subgroupMax);
}

/** Whether the device runs texts rewritten by `lowered`. */
export function runsLowered(target: Target): boolean {
  const { m, n, k } = unitFor(target);
  return target.matrix.length > 0 && target.subgroupMax === 8 && m * n * k === 8 ** 3;
}

/** `size`, or the smallest power of two times it, at which `fits`. */
function grown(size: number, fits: (size: number) => boolean): number {
  return fits(size) ? size : grown(2 * size, fits);
}

/** The tile of a product or a convolution: of four subgroups, with at least a group of elements to stage per thread. */
export function smallTile(target: Target): UnitTile {
  const unit = unitFor(target);
  const lanes = lanesOf(target);
  const [rows, columns] = [2 * unit.m, 2 * unit.n];
  const depth = grown(2 * unit.k, (depth) => Math.min(rows, columns) * depth / 4 % (4 * lanes) === 0);
  return { ...unit, lanes, down: 2, across: 2, rows, columns, depth, buffers: 1 };
}

/** The tile of a pass of attention: of two subgroups, with at least a group of scores per thread. */
export function smallAttention(target: Target, headDim: number): AttentionTile {
  const unit = unitFor(target);
  const lanes = lanesOf(target);
  const rows = 2 * unit.m;
  const step = grown(Math.max(unit.m, unit.n, unit.k), (step) => rows * step / 4 % (2 * lanes) === 0);
  return { ...unit, lanes, headDim, subgroups: 2, rows, step };
}

const BACKWARD = ["query", "key", "value", "dout", "lse", "delta"];

/** The passes of attention with their texts. */
export const attentionPasses: readonly { readonly pass: Pass; readonly text: UnitsText }[] = [
  { pass: { name: "f", reads: ["query", "key", "value"], writes: ["o", "lse"], products: 2 }, text: FORWARD_UNITS },
  { pass: { name: "q", reads: BACKWARD, writes: ["dq"], products: 3 }, text: QUERY_UNITS },
  { pass: { name: "kv", reads: BACKWARD, writes: ["dk", "dv"], products: 4 }, text: KEY_VALUE_UNITS },
];

/** What tests are called where the device has no matrix units. */
export function skippedWithoutUnits({ matrix }: Target): string {
  return matrix.length > 0 ? "" : " (skipped: the adapter shows no matrix units; COGTUNE_ENGINE=dawn on Mesa 26 does)";
}
