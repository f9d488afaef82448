/** What ranks tell each other behind every step, in one exchange: losses, seconds, memory. */
import type { Communicator } from "../../comm/exchange/communicator.ts";
import { gatherNumbers } from "../../comm/exchange/gather.ts";
import type { RankUsage } from "./events.ts";

/** What a rank tells of a step. */
export interface OwnFigures extends RankUsage {
  /** Losses of its micro-batches, the first of which is number `begin` of `total` over all ranks. */
  readonly losses: readonly number[];
  readonly begin: number;
  readonly total: number;
}

/** The figures of all ranks. */
export interface StepFigures {
  /** Loss of every micro-batch. */
  readonly losses: readonly number[];
  /** By rank. */
  readonly ranks: readonly RankUsage[];
}

/** Gathers the figures of a step; `total` is the same on all ranks. */
export async function gatherFigures(communicator: Communicator, own: OwnFigures): Promise<StepFigures> {
  const losses = new Array<number>(own.total).fill(0);
  losses.splice(own.begin, own.losses.length, ...own.losses);
  const all = await gatherNumbers(communicator, [own.seconds, own.gpuBytes, ...losses]);
  return {
    // Every place has one value that is not zero: that of the rank whose micro-batch it is.
    losses: losses.map((_, i) => all.reduce((sum, figures) => sum + figures[2 + i]!, 0)),
    ranks: all.map(([seconds, gpuBytes]) => ({ seconds: seconds!, gpuBytes: gpuBytes! })),
  };
}
