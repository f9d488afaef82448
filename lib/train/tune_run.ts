/** Measures the kernels of a run without training: what `tune` shows. */
import type { Problem } from "../../kernels/core/kernel.ts";
import { existsSync } from "node:fs";
import type { TrainConfig } from "../config/config.ts";
import { openDevice } from "../gpu/device.ts";
import { openModelFolder } from "../models/folder/model_folder.ts";
import { storedType } from "../step/model_state.ts";
import { describeRun, namedTransformer, roundsProducts } from "../step/run_description.ts";
import { cardOf, type Measured } from "../tune/table.ts";
import { type RefusedEvent, tune, type TuneEvent } from "../tune/tune.ts";
import { problemsOfRun } from "./kernels.ts";

/** What is known of the problems of a run on one card. */
export interface TunedRun {
  readonly card: string;
  readonly problems: readonly { readonly problem: Problem; readonly measured: Measured }[];
}

/**
 * Measures what is not known yet; with `again` everything. Shapes come from the checkpoint where `model_path` is a
 * folder, else from the name of the model; no weights are read.
 *
 * @throws {UserError} when neither tells the shape, or there is no GPU.
 */
export async function* tuneRun(
  config: TrainConfig,
  { again = false }: { readonly again?: boolean } = {},
): AsyncGenerator<TuneEvent | RefusedEvent, TunedRun> {
  const { model_path } = config;
  const folder = model_path !== undefined && existsSync(model_path) ? openModelFolder(model_path) : undefined;
  const model = folder?.transformer ?? namedTransformer(config);
  const run = describeRun(config, model, folder === undefined ? {} : { stored: storedType(folder) });
  using device = await openDevice({ engine: config.engine, mixed: roundsProducts(config) });
  const problems = problemsOfRun(device, run);
  const known = yield* tune(device, problems, { again });
  return {
    card: cardOf(device.adapter),
    problems: problems.map((problem) => ({ problem, measured: known.get(problem.key)! })),
  };
}
