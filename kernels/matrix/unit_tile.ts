/** Which tiles products on matrix units may use. */
import type { Target } from "../core/kernel.ts";
import { paddedStride, type Unit, unitOf } from "../core/units.ts";
import { LINE_BYTES } from "../core/half_scales.ts";
import { type Extent, preferTile } from "./gemm_shape.ts";

/**
 * The part of C that a workgroup owns, how its subgroups share it, and how operands reach them. Sizes are in elements.
 */
export interface UnitSize {
  /** Subgroups along the rows and along the columns of the tile. */
  readonly down: number;
  readonly across: number;
  /** Rows and columns of C per workgroup. */
  readonly rows: number;
  readonly columns: number;
  /** Depth that is staged at a time. */
  readonly depth: number;
  /**
   * Stages in workgroup memory: with two, the next is written while this one is multiplied, and a barrier less is
   * needed.
   */
  readonly buffers: 1 | 2;
}

/** A size on a device. */
export interface UnitTile extends UnitSize, Unit {
  /** Largest number of threads in a subgroup: the workgroup has this many for each of its `down * across` subgroups. */
  readonly lanes: number;
}

/** Threads of a workgroup. */
export function unitThreads({ lanes, down, across }: UnitTile): number {
  return lanes * down * across;
}

/** Elements of one staged operand of `width` rows (or columns), stored along the depth or across it. */
export function stageSize({ depth }: UnitSize, width: number, along: "depth" | "width"): number {
  return along === "depth" ? width * paddedStride(depth) : depth * paddedStride(width);
}

/** Workgroup memory that a tile takes at most: both operands staged and scaled, and a unit of sums per subgroup. */
export function unitBytes(tile: UnitTile): number {
  const { rows, columns, down, across, buffers, m, n } = tile;
  const stage = (width: number) =>
    2 * buffers * Math.max(stageSize(tile, width, "depth"), stageSize(tile, width, "width"));
  return stage(rows) + stage(columns) + 4 * down * across * m * n + LINE_BYTES * (rows + columns) + 4;
}

/** Depth of a stage: two products of 16, and a multiple of every unit's depth. */
const DEPTH = 32;

/**
 * Sizes from the most reuse to the most workgroups. A square of 128 reads each operand element from L2 once per 128
 * products (64 FLOP a byte of f16) and keeps 64 sums per thread of 32 lanes; a square of 64 has a quarter of the work
 * per workgroup, for products with few rows or columns. Rates on GPUs: not yet measured.
 */
export const UNIT_SIZES: readonly { readonly name: string; readonly size: UnitSize }[] = [
  { name: "units 128x128", size: { down: 2, across: 4, rows: 128, columns: 128, depth: DEPTH, buffers: 1 } },
  { name: "units 128x128 two stages", size: { down: 2, across: 4, rows: 128, columns: 128, depth: DEPTH, buffers: 2 } },
  { name: "units 64x64", size: { down: 2, across: 2, rows: 64, columns: 64, depth: DEPTH, buffers: 1 } },
  { name: "units 64x64 two stages", size: { down: 2, across: 2, rows: 64, columns: 64, depth: DEPTH, buffers: 2 } },
];

/** The tile of a size on a device; undefined where there are no units for it or too little workgroup memory. */
export function unitTile(target: Target, size: UnitSize): UnitTile | undefined {
  const unit = unitOf(target);
  if (unit === undefined) return undefined;
  const { rows, columns, down, across, depth } = size;
  const tile = { ...unit, lanes: target.subgroupMax, ...size };
  const divides = rows % (down * unit.m) === 0 && columns % (across * unit.n) === 0 && depth % unit.k === 0;
  return divides && unitBytes(tile) <= target.workgroupBytes ? tile : undefined;
}

/** Name of the size that suits a product of m x n; undefined where no size runs. */
export function unitName(target: Target, extent: Pick<Extent, "m" | "n">): string | undefined {
  return preferTile(
    UNIT_SIZES.filter(({ size }) => unitTile(target, size) !== undefined)
      .map(({ name, size: { rows, columns } }) => ({ name, rows, columns })),
    extent,
  );
}
