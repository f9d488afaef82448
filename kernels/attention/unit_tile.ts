/** How attention on matrix units is divided, and where its rows lie. */
import { foldGrid, type Kernel, type Launch, type Target } from "../core/kernel.ts";
import { paddedStride, type Unit, unitOf } from "../core/units.ts";
import { LINE_BYTES } from "../core/half_scales.ts";
import type { AttentionShape } from "./shape.ts";

/** What one workgroup owns: rows of one operand of one head. It walks the rows of the other operand a step at a time. */
export interface AttentionTile extends Unit {
  /** Largest number of threads in a subgroup. */
  readonly lanes: number;
  /** Subgroups of a workgroup. Each owns a part of the rows alone, so nothing is reduced across subgroups. */
  readonly subgroups: number;
  /** Rows per workgroup. */
  readonly rows: number;
  /** Rows of the other operand per step. */
  readonly step: number;
  readonly headDim: number;
}

/** Threads of a workgroup. */
export function attentionThreads({ lanes, subgroups }: AttentionTile): number {
  return lanes * subgroups;
}

/** What a kernel keeps in workgroup memory, in arrays of a tile. */
export interface Kept {
  /** Arrays [rows, step] of scores in f32. */
  readonly scores: number;
  /** Arrays [rows, step] of weights in f16. */
  readonly weights: number;
  /** Scales. */
  readonly lines: number;
}

/** f32 elements between rows of scores: rows stay aligned to 16 bytes, and four consecutive ones begin in different banks. */
export function scoreStride({ step }: AttentionTile): number {
  return step + 4;
}

/** Workgroup memory of a kernel. */
export function attentionBytes(tile: AttentionTile, { scores, weights, lines }: Kept): number {
  const { m, n, subgroups, rows, step, headDim } = tile;
  return 2 * 2 * step * paddedStride(headDim) + 4 * scores * rows * scoreStride(tile) +
    2 * weights * rows * paddedStride(step) +
    4 * subgroups * m * n + LINE_BYTES * lines + 8 * rows + 8;
}

/**
 * Tiles from the most reuse of the walked rows to the least workgroup memory. With 16 rows per subgroup each matrix of the other operand
 * that is loaded from workgroup memory is multiplied once, with 32 twice; steps of 64 rows halve the barriers of steps of 32.
 */
const SIZES = [
  { subgroups: 4, rows: 128, step: 32 },
  { subgroups: 4, rows: 64, step: 64 },
  { subgroups: 4, rows: 64, step: 32 },
  { subgroups: 2, rows: 32, step: 32 },
] as const;

/** The first tile that a device can run a kernel with; undefined where it has no units, or they do not divide the head. */
export function attentionTile(target: Target, headDim: number, kept: Kept): AttentionTile | undefined {
  const unit = unitOf(target);
  if (unit === undefined || headDim % unit.k !== 0 || headDim % unit.n !== 0) return undefined;
  return SIZES
    .map((size) => ({ ...unit, lanes: target.subgroupMax, headDim, ...size }))
    .find((tile) => divides(tile) && attentionBytes(tile, kept) <= target.workgroupBytes);
}

/** Whether units and threads divide a tile evenly, and the rows of a subgroup lie in one step of the own rows' way to registers. */
function divides(tile: AttentionTile): boolean {
  const { m, n, k, subgroups, rows, step, headDim } = tile;
  const threads = attentionThreads(tile);
  const part = rows / subgroups;
  return part % m === 0 && step % n === 0 && step % k === 0 && step % part === 0 &&
    (step * headDim / 4) % threads === 0 && (rows * step / 4) % threads === 0 &&
    threads % (headDim / 4) === 0 && threads % (step / 4) === 0;
}

/** Words of `params` that {@linkcode place} reads. */
export const PLACE_PARAMS = ["sequence", "heads", "stride4", "tiles", "units", "scale:f32"] as const;

/** Finds the head and the rows. In scope afterwards: `head` (of all batches), `statistics`, `origin`, `row0`, `last`, `first_row`. */
export function place({ rows, subgroups, headDim }: AttentionTile): string {
  return `if (wg >= params.units) { return; }
let head = wg / params.tiles;
let statistics = head * ((params.sequence + 3u) / 4u * 4u);
let origin = head / params.heads * params.sequence * params.stride4 + head % params.heads * ${headDim / 4}u;
let row0 = wg % params.tiles * ${rows}u;
let last = params.sequence - 1u;
let first_row = subgroup_id * ${rows / subgroups}u;`;
}

/** The launch of a kernel over all rows of all heads; `products` counts multiplications of whole matrices. */
export function launchTiles(
  kernel: Kernel,
  tile: AttentionTile,
  { batch, heads, sequence, scale }: AttentionShape,
  products: number,
): Launch {
  const tiles = Math.ceil(sequence / tile.rows);
  const units = tiles * batch * heads;
  return {
    kernel,
    params: [sequence, heads, heads * tile.headDim / 4, tiles, units, scale],
    grid: foldGrid(units),
    flops: 2 * products * batch * heads * sequence * sequence * tile.headDim,
  };
}
