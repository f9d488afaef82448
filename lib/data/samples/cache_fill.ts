/** Encodes what a cache lacks: the next inputs are made on the host while the GPU encodes those before them. */
import { problemOf, UserErrors } from "../../errors.ts";
import { bytesRefused } from "../../io/file_operations.ts";
import type { CachedTensor, SampleCache } from "../cache/cache.ts";
import { cacheKey, type CacheKind, type CacheRequest } from "../cache/key.ts";

/** One entry to build. */
export interface FillTask<Input> {
  readonly request: CacheRequest;
  /** Makes what the encoder takes; runs ahead of it. */
  prepare(signal: AbortSignal): Input | Promise<Input>;
}

/** What makes entries of inputs. */
export interface Encoder<Input> extends Disposable {
  /** Inputs that are encoded together. */
  readonly batch: number;
  /** The contents of one entry per input. */
  encode(inputs: readonly Input[]): Promise<readonly CachedTensor[]>;
}

/** How far entries of one kind are. */
export interface FillProgress {
  readonly kind: CacheKind;
  readonly done: number;
  readonly total: number;
  /** How many of `done` were found in the cache. */
  readonly reused: number;
}

/** Options of {@linkcode fillCache}. */
export interface FillOptions {
  readonly signal?: AbortSignal | undefined;
  /** This process takes care of every `size`-th distinct entry from `rank` on; the others are encoded elsewhere. */
  readonly share?: { readonly rank: number; readonly size: number };
}

/**
 * Builds the entries that are absent or damaged, in order; an entry that fails does not stop the others. `open` is
 * called if there is anything to encode.
 *
 * @returns how far each kind is, at the start and after every entry.
 * @throws {UserErrors} with everything that could not be prepared or encoded, after all else is stored.
 * @throws {UserError} at once when the disk is full.
 */
export async function* fillCache<Input>(
  cache: SampleCache,
  tasks: readonly FillTask<Input>[],
  open: () => Encoder<Input>,
  { signal, share = { rank: 0, size: 1 } }: FillOptions = {},
): AsyncGenerator<FillProgress> {
  const distinct = new Map<string, FillTask<Input>>();
  for (const task of tasks) {
    const key = cacheKey(task.request);
    // Messages name the first of several samples that share an entry.
    if (!distinct.has(key)) distinct.set(key, task);
  }
  // By position among all, because what is missing changes while other processes fill the cache.
  const own = [...distinct.values()].filter((_, i) => i % share.size === share.rank);
  // Reading verifies, so a damaged entry is built again here and not found in the middle of training.
  const missing = own.filter(({ request }) => cache.read(request) === undefined);
  const progress = new Map<CacheKind, FillProgress>();
  for (const kind of new Set(own.map(({ request }) => request.kind))) {
    const count = (of: readonly FillTask<Input>[]) => of.filter(({ request }) => request.kind === kind).length;
    const total = count(own);
    const reused = total - count(missing);
    progress.set(kind, { kind, done: reused, total, reused });
  }
  yield* progress.values();
  if (missing.length === 0) return;
  // One clip that cannot be read fails the entries of its frames and of its pictures alike.
  const failures = new Set<string>();
  using encoder = open();
  for await (const batch of preparedAhead(missing, encoder.batch, signal)) {
    const ready = batch.flatMap(({ task, input }) =>
      input.status === "fulfilled" ? [{ task, input: input.value }] : []
    );
    for (const { input } of batch) if (input.status === "rejected") failures.add(problemOf(input.reason));
    try {
      const contents = ready.length === 0 ? [] : await encoder.encode(ready.map(({ input }) => input));
      for (const [i, { task }] of ready.entries()) await cache.write(task.request, contents[i]!);
    } catch (error) {
      // A full disk has no room for what the others would be encoded to either.
      if (bytesRefused(error) > 0) throw error;
      failures.add(problemOf(error));
    }
    for (const { task: { request: { kind } } } of batch) {
      const before = progress.get(kind)!;
      progress.set(kind, { ...before, done: before.done + 1 });
      yield progress.get(kind)!;
    }
  }
  if (failures.size === 0) return;
  throw new UserErrors(
    "Some samples could not be encoded",
    [...failures],
    "mend or remove them; what could be encoded is in the cache",
  );
}

/** Tasks with their inputs, `size` at a time; while the caller works on some, the next are being made. */
async function* preparedAhead<Input>(
  tasks: readonly FillTask<Input>[],
  size: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<{ readonly task: FillTask<Input>; readonly input: PromiseSettledResult<Input> }[]> {
  const ended = new AbortController();
  const stop = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
  const start = (from: number) =>
    Promise.allSettled(tasks.slice(from, from + size).map(async (task) => await task.prepare(stop)));
  let next = start(0);
  try {
    for (let from = 0; from < tasks.length; from += size) {
      signal?.throwIfAborted();
      const inputs = await next;
      next = start(from + size);
      yield inputs.map((input, i) => ({ task: tasks[from + i]!, input }));
    }
  } finally {
    ended.abort();
    await next;
  }
}
