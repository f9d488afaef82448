/** What the GPU computes and moves in a step, and how that compares with what it can do. */
import { knownRates } from "../../forecast/gpu_rates.ts";
import { type Cost, cost } from "../../plan/recording.ts";
import type { StepRecording } from "../../step/training_step.ts";
import type { StepEvent } from "./events.ts";

/** The work of the steps of one rank. */
export class StepWork {
  readonly #micro: Cost;
  readonly #update: Cost;
  readonly #peak: number | undefined;

  /** @param device The GPU as its driver describes it. */
  constructor({ micro, update }: Pick<StepRecording, "micro" | "update">, device: string) {
    this.#micro = cost(micro);
    this.#update = cost(update);
    this.#peak = knownRates(device)?.flopsPerSecond;
  }

  /** Work and rates of a step of so many micro-batches that took so long. */
  of(
    micros: number,
    seconds: number,
  ): Pick<StepEvent, "secondsPerStep" | "flops" | "trafficBytes" | "flopsPerSecond" | "peakShare"> {
    const total = (key: "flops" | "trafficBytes") => micros * this.#micro[key] + this.#update[key];
    const flops = total("flops");
    const flopsPerSecond = flops / seconds;
    return {
      secondsPerStep: seconds,
      flops,
      trafficBytes: total("trafficBytes"),
      flopsPerSecond,
      ...(this.#peak === undefined ? {} : { peakShare: flopsPerSecond / this.#peak }),
    };
  }
}
