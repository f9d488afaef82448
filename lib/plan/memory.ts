/** Gives every transient of a plan its place: lifetimes are known, so buffers are assigned once and reused for the whole run. */
import { align, type Tensor } from "./tensor.ts";
import type { Step } from "./plan.ts";

/** Where an owner tensor lies: which arena buffer, and the byte it starts at. */
export interface Place {
  readonly chunk: number;
  readonly offset: number;
}

/** The arena of a plan. */
export interface MemoryMap {
  readonly places: ReadonlyMap<Tensor, Place>;
  /** Bytes of each arena buffer. */
  readonly chunks: readonly number[];
}

/** When a transient exists: from step `first` to step `last`, both included. */
export interface Lifetime {
  readonly tensor: Tensor;
  /** Aligned as it is placed. */
  readonly bytes: number;
  first: number;
  last: number;
}

/** Lifetimes of all transients of a list of steps; outputs live to its end. */
export function lifetimes(steps: readonly Step[], outputs: ReadonlySet<Tensor>): Lifetime[] {
  const spans = new Map<Tensor, Lifetime>();
  steps.forEach((step, index) => {
    for (const bound of step.tensors) {
      const tensor = bound.owner;
      if (tensor.resident) continue;
      const span = spans.get(tensor);
      if (span === undefined) spans.set(tensor, { tensor, bytes: align(tensor.bytes), first: index, last: index });
      else span.last = index;
    }
  });
  for (const output of outputs) {
    const span = spans.get(output);
    if (span !== undefined) span.last = steps.length;
  }
  return [...spans.values()];
}

/** Lowest start of a gap of `bytes` between occupied ranges, preferring the tightest one; Infinity is the end. */
function bestGap(occupied: readonly (readonly [number, number])[], bytes: number, limit: number): [number, number] {
  let end = 0;
  let best: [number, number] = [-1, Infinity];
  for (const [from, to] of [...occupied].sort((a, b) => a[0] - b[0])) {
    const gap = from - end;
    if (gap >= bytes && gap < best[1]) best = [end, gap];
    end = Math.max(end, to);
  }
  if (best[0] < 0 && end + bytes <= limit) best = [end, Infinity];
  return best;
}

/**
 * Places the largest tensors first, each in the tightest gap left by those alive at the same time (greedy by size,
 * arXiv:2001.03288). No arena buffer grows beyond `chunkBytes` unless a single tensor is larger.
 */
export function assignMemory(
  steps: readonly Step[],
  outputs: ReadonlySet<Tensor>,
  chunkBytes: number,
): MemoryMap {
  const spans = lifetimes(steps, outputs).sort((a, b) => b.bytes - a.bytes || a.first - b.first);
  const chunks: { size: number; placed: (Lifetime & { offset: number })[] }[] = [];
  const places = new Map<Tensor, Place>();
  for (const span of spans) {
    let choice: { chunk: number; offset: number; gap: number } | undefined;
    chunks.forEach(({ placed, size }, chunk) => {
      const occupied = placed.filter((other) => other.first <= span.last && span.first <= other.last)
        .map((other) => [other.offset, other.offset + other.bytes] as const);
      const [offset, gap] = bestGap(occupied, span.bytes, Math.max(size, chunkBytes));
      // Space inside a chunk's present size costs nothing; growing a chunk does.
      const cost = offset + span.bytes <= size ? gap : Number.MAX_VALUE;
      if (offset >= 0 && (choice === undefined || cost < choice.gap)) choice = { chunk, offset, gap: cost };
    });
    if (choice === undefined) {
      chunks.push({ size: 0, placed: [] });
      choice = { chunk: chunks.length - 1, offset: 0, gap: 0 };
    }
    const chunk = chunks[choice.chunk]!;
    chunk.placed.push({ ...span, offset: choice.offset });
    chunk.size = Math.max(chunk.size, choice.offset + span.bytes);
    places.set(span.tensor, { chunk: choice.chunk, offset: choice.offset });
  }
  return { places, chunks: chunks.map(({ size }) => size) };
}
