/** What ranks do together, whatever carries it. */
import type { Data, DataOf, DataType } from "./arrays.ts";
import type { TreeNode } from "./tree.ts";

/** Exit code of a process that ends because another rank failed. */
export const peerFailureCode = 7;

/** Another rank, or the launcher, failed or made no progress. */
export class PeerError extends Error {
  override name = "PeerError";
  /** The rank at fault; undefined for the launcher, or where the transport can't tell. */
  readonly culprit: number | undefined;

  constructor(message: string, culprit?: number) {
    super(message);
    this.culprit = culprit;
  }
}

/** How long ranks wait for each other, in milliseconds. */
export interface Deadlines {
  /** Without progress of the rank waited for. */
  readonly usual: number;
  /** The same until {@linkcode Communicator.endStep}: compiling kernels may take one rank minutes longer. */
  readonly firstStep: number;
}

/** Long enough for a rank that is ten times slower than the others at a step of six seconds. */
export const defaultDeadlines: Deadlines = { usual: 60_000, firstStep: 900_000 };

/** Milliseconds that ranks wait for each other when the last step took the slowest of them `step` milliseconds. */
export function deadlineAfter({ usual }: Deadlines, step: number): number {
  return Math.max(usual, 10 * step);
}

/**
 * Deadline of an exchange before which a rank may have encoded, saved or sampled: those take hours on a slow machine.
 */
export const longPhase: number = 6 * 3600_000;

/** Options of one exchange. */
export interface ExchangeOptions {
  /** Milliseconds that other ranks may take without progress, in place of the communicator's own: for long phases. */
  readonly deadline?: number;
}

/**
 * A group of processes, ranks 0 to size - 1. Every rank calls the same methods in the same order with arrays of the
 * same types and lengths; a rank that does not is named in the error of the others. Arrays may be any, and those from
 * {@linkcode allocate} need no copy. All methods that wait throw {@linkcode PeerError} when a rank fails or stalls; the
 * arrays of that call then hold nothing meaningful, and the communicator is of no more use.
 */
export interface Communicator {
  readonly kind: "single" | "shared_memory" | "mpi";
  readonly rank: number;
  readonly size: number;
  /** Milliseconds this rank has waited for others so far. */
  readonly waited: number;

  /**
   * An array of zeros for exchanges: in memory that the ranks share while there is room, else in private memory. It
   * lives as long as the communicator. Every rank allocates the same, in the same order.
   */
  allocate<T extends DataType>(type: T, length: number): DataOf[T];

  /** Adds arrays of this rank, `into[i] += from[i]`: bfloat16 in float32, rounded once. */
  add(into: Data, from: Data): void;

  /**
   * Replaces `data` by its sum over ranks, the same bits on every rank. float32 is summed in an order that depends on
   * the number of ranks. bfloat16 is summed in float32 and rounded to nearest even after every addition: size - 1
   * times.
   */
  allReduce(data: Data, options?: ExchangeOptions): Promise<void>;

  /**
   * Replaces this rank's shard of `data`, see {@linkcode shardOf}, by its sum over ranks. The other shards then hold
   * nothing meaningful.
   */
  reduceScatter(data: Data, options?: ExchangeOptions): Promise<void>;

  /** Fills `data` on every rank with the shards that the ranks hold of it, see {@linkcode shardOf}. */
  allGather(data: Data, options?: ExchangeOptions): Promise<void>;

  /** Replaces `data` by that of rank `root`. */
  broadcast(data: Data, root: number, options?: ExchangeOptions): Promise<void>;

  /**
   * Sums nodes of a tree over the global micro-batches, see tree.ts, into `into`: the same bits for any number of
   * ranks. `nodes` are this rank's {@linkcode rankNodes} in their order, float32, as long as `into`. With `scatter`
   * only this rank's shard of `into` is meaningful afterwards.
   */
  reduceTree(
    nodes: readonly TreeNode[],
    total: number,
    into: Float32Array<ArrayBuffer>,
    options?: ExchangeOptions & { readonly scatter?: boolean },
  ): Promise<void>;

  /** Waits until every rank is here. */
  barrier(options?: ExchangeOptions): Promise<void>;

  /** The largest of the ranks' values, integers from 0 to 2^31 - 1; a barrier too. */
  agree(value: number, options?: ExchangeOptions): Promise<number>;

  /**
   * Ends the patience that compiling deserves: from here on the usual deadline holds, or ten times the `milliseconds`
   * that the slowest rank took for a step, whichever is longer.
   */
  endStep(milliseconds?: number): void;

  /** Tells the other ranks that this one fails, so that they end at once and not at their deadline. */
  abort(): void;

  /** The last call of a rank that has done its work: waits for all ranks to get here. */
  leave(): Promise<void>;
}
