/** What the command line needs from the rest of the program, so that it can be tested without a GPU. */
import type { EngineReport } from "../../gpu/engine.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { TrainEvent } from "../../train/report/events.ts";
import type { LinkRates } from "../../forecast/scaling.ts";
import type { Dashboard } from "../dashboard/server.ts";
import type { TunedRun } from "../../train/tune_run.ts";
import type { RefusedEvent, TuneEvent } from "../../tune/tune.ts";

/** Findings about a dataset, ready to print. */
export interface DataReport {
  /** What was found: counts, sizes, frame rates. */
  readonly lines: readonly string[];
  /** What is likely a mistake. */
  readonly notes: readonly string[];
  /** What stops training. */
  readonly problems: readonly string[];
  /** The figures of the lines, and of every clip, for programs. */
  readonly figures: Readonly<Record<string, unknown>>;
}

/** A forecast, ready to print. */
export interface PlanReport {
  readonly lines: readonly string[];
  /** The figures of the lines for programs: bytes, seconds and operations. */
  readonly figures: Readonly<Record<string, unknown>>;
}

/** What `plan` is asked besides the config. */
export interface PlanRequest {
  /** Also find the switches with which the run fits this many bytes of GPU memory. */
  readonly fitBytes?: number;
  /** Machines with `gpus` GPUs each. */
  readonly hosts?: number;
  /** Known rates; they go before measured and usual ones. */
  readonly links?: Partial<LinkRates>;
  /** Measure rates on this machine, with as many ranks as a host has. */
  readonly measure?: boolean;
  /** GPU whose time is forecast: a known name, or its rates as TFLOPS:GBPS. */
  readonly gpu?: string;
}

/** The program behind the command line. */
export interface Commands {
  train(config: TrainConfig, options: { readonly signal: AbortSignal }): AsyncIterable<TrainEvent>;
  plan(config: TrainConfig, options?: PlanRequest): Promise<PlanReport>;
  /** Measures kernels at the shapes of a run. */
  tune(
    config: TrainConfig,
    options: { readonly again: boolean },
  ): AsyncGenerator<TuneEvent | RefusedEvent, TunedRun>;
  /** With `html`, also writes a page of the clips. */
  checkData(config: TrainConfig, html?: string): Promise<DataReport>;
  describeEngines(): Promise<EngineReport[]>;
  /** Serves the page of a run or of all runs in a folder to browsers on this machine. */
  serve(folder: string, port: number | undefined): Promise<Dashboard>;
}
