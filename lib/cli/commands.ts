/** What the command line needs from the rest of the program, so that it can be tested without a GPU. */
import type { AdapterReport } from "../gpu/device.ts";
import type { TrainConfig } from "../train/config.ts";
import type { TrainEvent } from "../train/events.ts";

/** Findings about a dataset, ready to print. */
export interface DataReport {
  /** What was found: counts, sizes, frame rates. */
  readonly lines: readonly string[];
  /** What is likely a mistake. */
  readonly notes: readonly string[];
  /** What stops training. */
  readonly problems: readonly string[];
}

/** The program behind the command line. */
export interface Commands {
  train(config: TrainConfig, options: { readonly signal: AbortSignal }): AsyncIterable<TrainEvent>;
  /** The forecast of a run as lines of a table. */
  plan(config: TrainConfig): Promise<readonly string[]>;
  checkData(config: TrainConfig): Promise<DataReport>;
  describeAdapter(): Promise<AdapterReport | undefined>;
}
