/**
 * Gives every transient of a plan its place: lifetimes are known, so buffers are assigned once and reused for the whole
 * run.
 */
import { storedPieces } from "./pieces.ts";
import { align, type Tensor } from "./tensor.ts";
import type { Step } from "./plan.ts";
import type { RecordingLimits } from "./limits.ts";

/** Where a piece of an owner tensor lies: which arena buffer, and the byte it starts at. */
export interface Place {
  readonly chunk: number;
  readonly offset: number;
}

/** The arena of a plan. */
export interface MemoryMap {
  /** Places of the pieces of each owner, in order. */
  readonly places: ReadonlyMap<Tensor, readonly Place[]>;
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

interface Placed extends Lifetime {
  readonly offset: number;
}

/**
 * Lowest start of the tightest gap for `span` between those of `placed` (by offset) that are alive with it, and its
 * size; the end counts as a gap of infinite size, and -1 means that `limit` leaves no room.
 */
function bestGap(placed: readonly Placed[], span: Lifetime, limit: number): [number, number] {
  const { first, last, bytes } = span;
  let end = 0;
  let best: [number, number] = [-1, Infinity];
  for (const other of placed) {
    if (other.last < first || last < other.first) continue;
    const gap = other.offset - end;
    if (gap >= bytes && gap < best[1]) best = [end, gap];
    end = Math.max(end, other.offset + other.bytes);
  }
  if (best[0] < 0 && end + bytes <= limit) best = [end, Infinity];
  return best;
}

/** Inserts behind all with a smaller or equal offset. */
function insertByOffset(placed: Placed[], item: Placed): void {
  let [low, high] = [0, placed.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (placed[middle]!.offset <= item.offset) low = middle + 1;
    else high = middle;
  }
  placed.splice(low, 0, item);
}

/**
 * Places the largest tensors first, each in the tightest gap left by those alive at the same time (greedy by size,
 * arXiv:2001.03288). No arena buffer grows beyond `chunkBytes`: of a larger tensor every piece is placed by itself.
 */
export function assignMemory(
  steps: readonly Step[],
  outputs: ReadonlySet<Tensor>,
  limits: RecordingLimits,
): MemoryMap {
  const spans = lifetimes(steps, outputs)
    .flatMap((span) => storedPieces(span.tensor, limits).map((bytes) => ({ ...span, bytes })))
    // No piece is larger than the one before it and the sort is stable, so the pieces of a tensor stay in order.
    .sort((a, b) => b.bytes - a.bytes || a.first - b.first);
  const chunks: { size: number; placed: Placed[] }[] = [];
  const places = new Map<Tensor, Place[]>();
  for (const span of spans) {
    let choice: { chunk: number; offset: number; gap: number } | undefined;
    chunks.forEach(({ placed, size }, chunk) => {
      const [offset, gap] = bestGap(placed, span, limits.chunkBytes);
      // Space inside a chunk's present size costs nothing; growing a chunk does.
      const cost = offset + span.bytes <= size ? gap : Number.MAX_VALUE;
      if (offset >= 0 && (choice === undefined || cost < choice.gap)) choice = { chunk, offset, gap: cost };
    });
    if (choice === undefined) {
      chunks.push({ size: 0, placed: [] });
      choice = { chunk: chunks.length - 1, offset: 0, gap: 0 };
    }
    const chunk = chunks[choice.chunk]!;
    insertByOffset(chunk.placed, { ...span, offset: choice.offset });
    chunk.size = Math.max(chunk.size, choice.offset + span.bytes);
    const before = places.get(span.tensor) ?? [];
    places.set(span.tensor, [...before, { chunk: choice.chunk, offset: choice.offset }]);
  }
  return { places, chunks: chunks.map(({ size }) => size) };
}
