/**
 * Gradients of several ranks become one. Ranks work on contiguous blocks of the micro-batches of an optimizer step; the
 * window is that of one process with as many micro-batches, so the number of ranks changes nothing but the order of
 * sums. Where the update is sharded, each rank keeps its shard of the sum, and the working values of all shards are
 * gathered after the update. A loss that is not finite travels as a NaN in the gradients, so that all ranks leave the
 * step out or none does.
 */
import { CanonicalSum } from "../comm/exchange/canonical.ts";
import type { Communicator } from "../comm/exchange/communicator.ts";
import { shardOf } from "../comm/exchange/arrays.ts";
import { blockOf } from "../comm/exchange/tree.ts";
import { gatherNumbers } from "../comm/exchange/gather.ts";
import type { Session } from "../gpu/session.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import type { Tensor } from "../plan/tensor.ts";
import type { RunDescription } from "./run_description.ts";

/** Host memory for what one wait brings: beside it, copies of as much are alive. */
const READ_BYTES = 128 * 2 ** 20;

/** Which micro-batches of a step a rank works on, and how their gradients are summed. */
export interface GradientExchange {
  /** Starts a step of `total` micro-batches over all ranks; returns those of this rank. */
  begin(total: number): { readonly begin: number; readonly end: number };
  /** Called behind each micro-batch of this rank. */
  afterMicro(): Promise<void>;
  /**
   * Leaves the sum over all ranks (or this rank's shard of it) where the update reads it; the sum of squares where the
   * host computes the norm.
   */
  finish(): Promise<number | undefined>;
  /** Brings the updated working values of other ranks. */
  afterUpdate(): Promise<void>;
}

/** What an exchange works on. */
export interface GradientExchangeOptions {
  readonly session: Session;
  readonly communicator: Communicator;
  readonly run: RunDescription;
  readonly reduction: "ring" | "canonical";
  /** Loss of the last micro-batch of this rank, [4]. */
  readonly loss: Tensor;
}

/** The exchange of a run. One rank with `ring` leaves its gradients where they are. */
export function createExchange(options: GradientExchangeOptions): GradientExchange {
  const { communicator, run: { shard }, reduction } = options;
  const { rank, size } = communicator;
  const afterUpdate = () => gatherCopies(options);
  if (reduction === "canonical") return canonicalExchange(options);
  const alone = size === 1 && shard === undefined;
  // Memory that the ranks share is summed in place; any other would be copied into it and back.
  const staged = options.run.trainables.buckets.map(({ gradients }) =>
    alone || gradients.host ? undefined : communicator.allocate("f32", gradients.size)
  );
  return {
    begin: (total) => blockOf(total, rank, size),
    afterMicro: () => Promise.resolve(),
    async finish() {
      if (alone) return undefined;
      const sums = await download(options, staged);
      for (const sum of sums) {
        await (shard === undefined ? communicator.allReduce(sum) : communicator.reduceScatter(sum));
      }
      upload(options, sums);
      return shard === undefined ? undefined : await sumOfSquares(options, sums);
    },
    afterUpdate,
  };
}

/** Every micro-batch's gradients leave the GPU on their own and are added up in a fixed tree. */
function canonicalExchange(options: GradientExchangeOptions): GradientExchange {
  const { session, communicator, run: { trainables: { buckets }, shard }, loss } = options;
  const sums = buckets.map(({ gradients }) => new CanonicalSum(communicator, gradients.size));
  const gradients = buckets.map((bucket) => bucket.gradients);
  return {
    begin(total) {
      for (const sum of sums) sum.begin(total);
      return sums[0]!.block;
    },
    async afterMicro() {
      let next = -1;
      let isFinite = true;
      for (const group of readGroups([loss, ...gradients])) {
        for (const bytes of await session.read(group)) {
          const values = new Float32Array(bytes);
          const sum = sums[next++];
          if (sum === undefined) {
            isFinite = Number.isFinite(values[0]);
            continue;
          }
          const own = sum.next();
          own.set(values);
          if (!isFinite) own[0] = NaN;
          sum.push();
        }
      }
      session.clear(gradients);
    },
    async finish() {
      const results = buckets.map((bucket) => hostView(session, bucket) ?? new Float32Array(bucket.gradients.size));
      for (const [i, sum] of sums.entries()) await sum.reduce(results[i]!, { scatter: shard !== undefined });
      upload(options, results);
      return await sumOfSquares(options, results);
    },
    afterUpdate: () => gatherCopies(options),
  };
}

/** The gradients of a bucket in place, when they are in host memory. */
function hostView(session: Session, { gradients }: Bucket): Float32Array<ArrayBuffer> | undefined {
  if (!gradients.host) return undefined;
  const { buffer, byteOffset } = session.host.bytes(gradients);
  return new Float32Array(buffer, byteOffset, gradients.size);
}

/** The gradients of every bucket on the host: in place where they are there, else in `staged`. */
async function download(
  { session, run, loss }: GradientExchangeOptions,
  staged: readonly (Float32Array<ArrayBuffer> | undefined)[],
): Promise<Float32Array<ArrayBuffer>[]> {
  await session.host.settle();
  const { buckets } = run.trainables;
  const onGpu = buckets.flatMap(({ gradients }, i) => gradients.host ? [] : [{ gradients, array: staged[i]! }]);
  let next = -1;
  let isFinite = true;
  for (const group of readGroups([loss, ...onGpu.map(({ gradients }) => gradients)])) {
    for (const bytes of await session.read(group)) {
      const values = new Float32Array(bytes);
      const target = onGpu[next++];
      if (target === undefined) isFinite = Number.isFinite(values[0]);
      else target.array.set(values);
    }
  }
  const sums = buckets.map((bucket, i) => staged[i] ?? hostView(session, bucket)!);
  if (!isFinite) sums[0]![0] = NaN;
  return sums;
}

/** Tensors in order, in groups that are read in one wait each: a wait costs 11 ms whatever it brings. */
export function readGroups(tensors: readonly Tensor[]): Tensor[][] {
  const groups: Tensor[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    room -= tensor.bytes;
    if (groups.length > 0 && room >= 0) groups.at(-1)!.push(tensor);
    else {
      groups.push([tensor]);
      room = READ_BYTES - tensor.bytes;
    }
  }
  return groups;
}

/** Brings sums back to gradients that live on the GPU; those in host memory were summed in place. */
function upload({ session, run }: GradientExchangeOptions, sums: readonly Float32Array<ArrayBuffer>[]): void {
  run.trainables.buckets.forEach(({ gradients }, i) => {
    if (!gradients.host) session.write(gradients, sums[i]!);
  });
}

/** Sum of squares of all gradients in float64; each rank adds up its shard when that is all it has. */
async function sumOfSquares(
  { communicator, run: { shard } }: GradientExchangeOptions,
  sums: readonly Float32Array[],
): Promise<number> {
  let own = 0;
  for (const sum of sums) {
    const { begin, end } = shard === undefined
      ? { begin: 0, end: sum.length }
      : shardOf(sum.length, communicator.rank, communicator.size);
    for (let i = begin; i < end; i++) own += sum[i]! * sum[i]!;
  }
  if (shard === undefined) return own;
  const parts = await gatherNumbers(communicator, [own]);
  return parts.reduce((total, [part]) => total + part!, 0);
}

/** The working values of all shards, in host memory and, where the model reads them on the GPU, there too. */
async function gatherCopies(
  { session, communicator, run: { shard, trainables } }: GradientExchangeOptions,
): Promise<void> {
  if (shard === undefined) return;
  await session.host.settle();
  for (const [i, { copy }] of trainables.buckets.entries()) {
    const bytes = session.host.bytes(shard.gathered[i]!);
    const { buffer, byteOffset } = bytes;
    const length = copy!.size;
    await communicator.allGather(
      copy!.dtype === "f32"
        ? new Float32Array(buffer, byteOffset, length)
        : new Uint16Array(buffer, byteOffset, length),
    );
    if (!copy!.host) session.write(copy!, bytes);
    await session.flush();
  }
}
