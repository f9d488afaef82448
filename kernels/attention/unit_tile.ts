/** How attention on matrix units is divided, and where its rows lie. */
import { foldGrid, type Launch, type Target } from "../core/kernel.ts";
import { buildKernel } from "../core/wgsl.ts";
import { paddedStride, type Unit, unitOf, unitOperand } from "../core/units.ts";
import { LINE_BYTES } from "../core/half_scales.ts";
import { type AttentionShape, type AttentionSpec, HEAD_STATISTICS, type Pass, passBuffers } from "./shape.ts";

/**
 * What one workgroup owns: rows of one operand of one head. It walks the rows of the other operand a step at a time.
 */
export interface AttentionSize {
  /** Subgroups of a workgroup. Each owns a part of the rows alone, so nothing is reduced across subgroups. */
  readonly subgroups: number;
  /** Rows per workgroup. */
  readonly rows: number;
  /** Rows of the other operand per step. */
  readonly step: number;
}

/** A size on a device. */
export interface AttentionTile extends AttentionSize, Unit {
  /** Largest number of threads in a subgroup. */
  readonly lanes: number;
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

/**
 * f32 elements between rows of scores: rows stay aligned to 16 bytes, and four consecutive ones begin in different
 * banks.
 */
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
 * Tiles from the most reuse of the walked rows to the least workgroup memory. With 16 rows per subgroup each matrix of
 * the other operand that is loaded from workgroup memory is multiplied once, with 32 twice; steps of 64 rows halve the
 * barriers of steps of 32.
 */
export const ATTENTION_SIZES: readonly { readonly name: string; readonly size: AttentionSize }[] = [
  { name: "units 128 by 32", size: { subgroups: 4, rows: 128, step: 32 } },
  { name: "units 64 by 64", size: { subgroups: 4, rows: 64, step: 64 } },
  { name: "units 64 by 32", size: { subgroups: 4, rows: 64, step: 32 } },
  { name: "units 32 by 32", size: { subgroups: 2, rows: 32, step: 32 } },
];

/**
 * The tile of a size on a device; undefined where it has no units, they do not divide it, or workgroup memory is too
 * small.
 */
export function attentionTile(
  target: Target,
  size: AttentionSize,
  headDim: number,
  kept: Kept,
): AttentionTile | undefined {
  const unit = unitOf(target);
  if (unit === undefined) return undefined;
  const tile = { ...unit, lanes: target.subgroupMax, headDim, ...size };
  return divides(tile) && attentionBytes(tile, kept) <= target.workgroupBytes ? tile : undefined;
}

/**
 * Whether units and threads divide a tile evenly, and the rows of a subgroup lie in one step of the own rows' way to
 * registers.
 */
function divides(tile: AttentionTile): boolean {
  const { m, n, k, subgroups, rows, step, headDim } = tile;
  const threads = attentionThreads(tile);
  const part = rows / subgroups;
  return headDim % k === 0 && headDim % n === 0 && part % m === 0 && step % n === 0 && step % k === 0 &&
    step % part === 0 &&
    (step * headDim / 4) % threads === 0 && (rows * step / 4) % threads === 0 &&
    threads % (headDim / 4) === 0 && threads % (step / 4) === 0;
}

/**
 * Finds the head and the rows. In scope afterwards: `head` (of all batches), `statistics`, `origin`, `row0`, `last`,
 * `first_row`.
 */
export function place({ rows, subgroups, headDim }: AttentionTile): string {
  return `if (wg >= params.units) { return; }
let head = wg / params.tiles;
let statistics = ${HEAD_STATISTICS};
let origin = head / params.heads * params.sequence * params.stride4 + head % params.heads * ${headDim / 4}u;
let row0 = wg % params.tiles * ${rows}u;
let last = params.sequence - 1u;
let first_row = subgroup_id * ${rows / subgroups}u;`;
}

/** The text of a pass; `half` tells that tensors are f16 and need no scales. */
export interface UnitsText {
  readonly kept: Kept;
  readonly declarations: (tile: AttentionTile, half: boolean) => string;
  readonly body: (tile: AttentionTile, half: boolean) => string;
}

/** The launch of a pass. */
export function launchUnits(
  pass: Pass,
  text: UnitsText,
  tile: AttentionTile,
  spec: AttentionSpec,
  { batch, heads, sequence, scale }: AttentionShape,
): Launch {
  const { name, reads, products } = pass;
  const half = spec.dtype === "f16";
  const tiles = Math.ceil(sequence / tile.rows);
  const units = tiles * batch * heads;
  return {
    kernel: buildKernel({
      name: `${name}_units`,
      spec: { dtype: spec.dtype, ...tile },
      params: ["sequence", "heads", "stride4", "tiles", "units", "scale:f32"],
      buffers: passBuffers(pass, spec).map((buffer) =>
        reads.includes(buffer.name) && buffer.dtype === spec.dtype ? unitOperand(buffer.name, buffer.dtype) : buffer
      ),
      workgroupSize: attentionThreads(tile),
      subgroupId: true,
      declarations: () => text.declarations(tile, half),
      body: () => text.body(tile, half),
    }),
    params: [sequence, heads, heads * tile.headDim / 4, tiles, units, scale],
    grid: foldGrid(units),
    flops: 2 * products * batch * heads * sequence * sequence * tile.headDim,
  };
}
