/**
 * Gradients of several ranks become one. Ranks work on contiguous blocks of the micro-batches of an optimizer step; the window
 * is that of one process with as many micro-batches, so the number of ranks changes nothing but the order of sums.
 */
import { CanonicalSum } from "../comm/canonical.ts";
import type { Communicator } from "../comm/communicator.ts";
import { blockOf } from "../comm/tree.ts";
import type { Session } from "../gpu/session.ts";
import type { Bucket } from "../models/trainables.ts";

/** Which micro-batches of a step a rank works on, and how their gradients are summed. */
export interface GradientExchange {
  /** Starts a step of `total` micro-batches over all ranks; returns those of this rank. */
  begin(total: number): { readonly begin: number; readonly end: number };
  /** Called behind each micro-batch of this rank. */
  afterMicro(): Promise<void>;
  /** Leaves the sum over all ranks in the gradients on the GPU. */
  finish(): Promise<void>;
}

/** The exchange of a run. One rank with `ring` keeps its gradients on the GPU. */
export function createExchange(
  session: Session,
  communicator: Communicator,
  buckets: readonly Bucket[],
  reduction: "ring" | "canonical",
): GradientExchange {
  const length = buckets.reduce((sum, { gradients }) => sum + gradients.size, 0);
  if (reduction === "canonical") return canonicalExchange(session, communicator, buckets, length);
  const { rank, size } = communicator;
  const sum = size === 1 ? undefined : communicator.allocate("f32", length);
  return {
    begin: (total) => blockOf(total, rank, size),
    afterMicro: () => Promise.resolve(),
    async finish() {
      if (sum === undefined) return;
      await download(session, buckets, sum);
      await communicator.allReduce(sum);
      upload(session, buckets, sum);
    },
  };
}

/** Every micro-batch's gradients leave the GPU on their own and are added up in a fixed tree. */
function canonicalExchange(
  session: Session,
  communicator: Communicator,
  buckets: readonly Bucket[],
  length: number,
): GradientExchange {
  const sum = new CanonicalSum(communicator, length);
  const result = communicator.allocate("f32", length);
  return {
    begin(total) {
      sum.begin(total);
      return sum.block;
    },
    async afterMicro() {
      await download(session, buckets, sum.next());
      sum.push();
      session.clear(buckets.map(({ gradients }) => gradients));
    },
    async finish() {
      await sum.reduce(result);
      upload(session, buckets, result);
    },
  };
}

async function download(session: Session, buckets: readonly Bucket[], into: Float32Array): Promise<void> {
  let at = 0;
  for (const { gradients } of buckets) {
    into.set(new Float32Array((await session.read([gradients]))[0]!), at);
    at += gradients.size;
  }
}

function upload(session: Session, buckets: readonly Bucket[], from: Float32Array<ArrayBuffer>): void {
  let at = 0;
  for (const { gradients } of buckets) {
    session.write(gradients, from.subarray(at, at + gradients.size));
    at += gradients.size;
  }
}
