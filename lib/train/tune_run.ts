/** Measures the kernels of a run without training: what `tune` shows. */
import type { Problem } from "../../kernels/core/kernel.ts";
import type { TrainConfig } from "../config/config.ts";
import { openDevice } from "../gpu/device.ts";
import { roundsProducts } from "../step/run_description.ts";
import { peaksOf } from "../tune/peaks.ts";
import { cardOf, type Measured, type Peaks } from "../tune/table.ts";
import { type RefusedEvent, tune, type TuneEvent } from "../tune/tune.ts";
import { describeKernels } from "./checks/preflight.ts";
import { problemsOfRun } from "./kernels.ts";

/** What is known of the problems of a run on one card. */
export interface TunedRun {
  readonly card: string;
  /** What the card can do at best, where that can be measured, and what of it could not be. */
  readonly peaks: Peaks | undefined;
  readonly unknown: readonly string[];
  readonly problems: readonly { readonly problem: Problem; readonly measured: Measured }[];
}

/**
 * Measures what is not known yet; with `again` everything. The run is the one that `train` would make of the config, at
 * the shapes of the model folder or, where there is none, of the released model that is named; no weights are read.
 *
 * @throws {UserError} what is wrong with it, or that there is no GPU.
 */
export async function* tuneRun(
  config: TrainConfig,
  { again = false }: { readonly again?: boolean } = {},
): AsyncGenerator<TuneEvent | RefusedEvent, TunedRun> {
  const run = await describeKernels(config);
  using device = await openDevice({ engine: config.engine, mixed: roundsProducts(config) });
  const problems = problemsOfRun(device, run);
  const known = yield* tune(device, problems, { again });
  const { peaks, problems: unknown } = await peaksOf(device, { again });
  return {
    card: cardOf(device.adapter),
    peaks,
    unknown,
    problems: problems.map((problem) => ({ problem, measured: known.get(problem.key)! })),
  };
}
