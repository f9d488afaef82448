/**
 * Video tensors [frames, height, width, channels]. Launches are cut along frames or positions so that their bindings
 * fit any device, which is cheaper than a division by pieces; of a frame too large for that, the plan binds the pieces.
 */
import { copyFrames } from "../../../kernels/rows/resample.ts";
import type { Plan } from "../../plan/plan.ts";
import type { Tensor } from "../../plan/tensor.ts";

/** The binding size every WebGPU device offers: launches are cut by it, so that they give the same bits everywhere. */
export const BINDING_BYTES = 2 ** 27;

/** Where video ops are recorded. */
export interface VideoContext {
  readonly plan: Plan;
  /** Largest range one binding covers; {@linkcode BINDING_BYTES} except in tests. */
  readonly bindingBytes: number;
}

/** Bytes of one entry of the first dimension. */
export function frameBytes(x: Tensor): number {
  return x.bytes / x.shape[0]!;
}

/** Entries `from` to `from + count` of the first dimension as a window. */
export function entries(x: Tensor, from: number, count: number): Tensor {
  return x.window(x.name, from * (x.size / x.shape[0]!), [count, ...x.shape.slice(1)]);
}

/** A tensor to bind, and the entry of its first dimension at which the wanted range begins. */
export interface Range {
  readonly tensor: Tensor;
  readonly first: number;
}

/**
 * Entries of the first dimension: in the tensor itself while it fits a binding (windows need aligned starts), else in a
 * window.
 */
export function range({ bindingBytes }: VideoContext, x: Tensor, from: number, count: number): Range {
  return x.bytes <= bindingBytes ? { tensor: x, first: from } : { tensor: entries(x, from, count), first: 0 };
}

/**
 * Calls `record` with consecutive ranges of `total` entries: as many `step`s of them as a binding holds, at least one.
 */
export function slices(
  { bindingBytes }: VideoContext,
  total: number,
  entryBytes: number,
  record: (from: number, count: number) => void,
  step = 1,
): void {
  if (total * entryBytes <= bindingBytes) return record(0, total);
  const length = Math.max(1, Math.floor(bindingBytes / entryBytes / step)) * step;
  for (let from = 0; from < total; from += length) record(from, Math.min(length, total - from));
}

/** The last frames of a chunk, which precede the next one. */
export interface FrameCache {
  /** [frames, height, width, channels]; resident when another chunk follows. */
  readonly frames: Tensor;
  /** No chunk came before: copies of the first frame stand in front. */
  readonly first: boolean;
}

/**
 * Completes `x` [lead + frames, height, width, channels], whose own frames lie behind `lead` free ones: those are
 * filled with the cached frames, or with copies of the first frame when nothing is cached, and the last frames of all
 * become the cache.
 */
export function carryFrames(context: VideoContext, x: Tensor, { frames, first }: FrameCache): void {
  const lead = frames.shape[0]!;
  const total = x.shape[0]!;
  if (first) { for (let i = 0; i < lead; i++) copyFrame(context, x, lead, frames, i); }
  for (let i = 0; i < lead; i++) copyFrame(context, frames, i, x, i);
  for (let i = 0; i < lead; i++) copyFrame(context, x, total - lead + i, frames, i);
}

function copyFrame(context: VideoContext, x: Tensor, from: number, y: Tensor, to: number): void {
  const size = x.size / x.shape[0]!;
  const source = range(context, x, from, 1);
  const target = range(context, y, to, 1);
  context.plan.launch(
    copyFrames({ dtype: x.dtype }, { size, from: source.first * size, to: target.first * size }),
    [source.tensor, target.tensor],
    [target.tensor],
  );
}
