/** Watches steps of a run, and says what they consist of. The first step compiles kernels, so it is left out. */
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import type { Device } from "../../gpu/device.ts";
import type { Timeline } from "../../gpu/timeline.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import type { Peaks } from "../../tune/table.ts";
import type { ProfileEvent, WarningEvent } from "../report/events.ts";
import { type Situation, whatBounds } from "./bounds.ts";
import { sumUp } from "./figures.ts";
import { traceJson } from "./trace.ts";

/** Name of the trace in the output folder. */
const TRACE_FILE = "profile.trace.json";

/** What a profile depends on. */
export interface ProfilerOptions {
  readonly device: Device;
  readonly config: TrainConfig;
  /** Ceilings of the card, where it can be measured what they are. */
  readonly peaks: Peaks | undefined;
  /** Kernels were chosen by measuring them. */
  readonly tuned: boolean;
}

/** Watches as many steps as `profile` says. */
export class StepProfiler {
  #made = 0;
  #watched = 0;
  #timeline: Timeline | undefined;

  constructor(readonly options: ProfilerOptions) {}

  /** Makes a step, watched if it is one of those. */
  async step<T>(make: () => Promise<T>): Promise<T> {
    const { device, config } = this.options;
    const isWatched = this.#made++ > 0 && this.#watched < config.profile;
    if (!isWatched) return await make();
    this.#timeline ??= device.watch();
    device.timeline = this.#timeline;
    this.#watched++;
    try {
      return await this.#timeline.span("step", 0, make);
    } finally {
      device.timeline = undefined;
    }
  }

  /** To be called behind every step: tells what was found once the last of the watched ones, or of the run, is made. */
  async report(step: number, isLast: boolean): Promise<ProfileEvent | WarningEvent | undefined> {
    const { config, device, peaks } = this.options;
    if (this.#timeline === undefined) {
      if (!isLast || this.#watched > 0) return undefined;
      return { type: "warning", message: "nothing was profiled: this run made no step after its first" };
    }
    if (this.#watched < config.profile && !isLast) return undefined;
    const { spans } = this.#timeline;
    const launches = await this.#timeline.launches();
    this.#timeline = undefined;
    const figures = sumUp(launches, spans, peaks);
    const trace = join(config.output_dir, TRACE_FILE);
    await writeFileAtomic(trace, traceJson(launches, spans));
    const words = whatBounds(figures, situationOf(this.options));
    if (!device.timestamps) words.unshift(UNTIMED);
    return { type: "profile", step, figures, words, trace };
  }
}

const UNTIMED = "This adapter cannot time passes (it lacks timestamp-query): every launch was waited for and timed " +
  "on the host's clock, so short ones seem longer than they are, and gaps and waits are those of measuring.";

function situationOf({ device, config, tuned }: ProfilerOptions): Situation {
  const { target, dialect, adapter } = device;
  return {
    fullPrecision: config.mixed_precision === "no",
    mixed: target.mixed,
    matrixUnits: target.matrix.length > 0,
    engine: dialect.engine,
    software: adapter.software,
    tuned,
    checkpointing: config.gradient_checkpointing,
    streamed: config.base_weights === "streamed",
    offloadActivations: config.offload_activations,
    offloadOptimizer: config.offload_optimizer,
    ranks: config.gpus,
  };
}
