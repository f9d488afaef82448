/** What the GPU computes and moves in a step, and how that compares with what it can do. */
import { knownRates } from "../../forecast/gpu_rates.ts";
import { type Cost, cost } from "../../plan/recording.ts";
import { microRecordings, type StepRecording } from "../../step/training_step.ts";
import type { StepEvent } from "./events.ts";

/** The work of the steps of one rank. */
export class StepWork {
  /** By bucket. */
  readonly #micros: readonly Cost[];
  readonly #update: Cost;
  readonly #peak: number | undefined;

  /** @param device The GPU as its driver describes it. */
  constructor(recording: StepRecording, device: string) {
    this.#micros = microRecordings(recording).map(({ micro }) => cost(micro));
    this.#update = cost(recording.update);
    this.#peak = knownRates(device)?.flopsPerSecond;
  }

  /** Work and rates of a step of micro-batches of these buckets that took so long. */
  of(
    buckets: readonly number[],
    seconds: number,
  ): Pick<StepEvent, "secondsPerStep" | "flops" | "trafficBytes" | "flopsPerSecond" | "peakShare"> {
    const total = (key: "flops" | "trafficBytes") =>
      buckets.reduce((sum, bucket) => sum + this.#micros[bucket]![key], this.#update[key]);
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
