/** What the GPU computes and moves in a step, and how that compares with what it can do. */
import { type Cost, cost, type Recording } from "../../plan/recording.ts";
import { microRecordings, type StepRecording } from "../../step/training_step.ts";
import { type Arithmetic, arithmeticOf, secondsAtPeak } from "../../tune/peaks.ts";
import type { Peaks } from "../../tune/table.ts";
import type { StepEvent } from "./events.ts";

/** Cost of a recording, with the seconds that its arithmetic takes at the peaks of the card, where they are known. */
interface Work extends Cost {
  readonly secondsAtPeak: number | undefined;
}

function workOf(recording: Recording, peaks: Peaks | undefined): Work {
  return { ...cost(recording), secondsAtPeak: peaks && secondsAtPeak(arithmeticIn(recording), peaks) };
}

/** Operations by what does them. Texts are looked at once each: a recording has thousands of launches of a few. */
function arithmeticIn({ launches }: Recording): Partial<Record<Arithmetic, number>> {
  const kinds = new Map<string, Arithmetic>();
  const flops: Partial<Record<Arithmetic, number>> = {};
  for (const launch of launches) {
    if (launch === undefined) continue;
    const { kernel } = launch;
    const kind = kinds.get(kernel.key) ?? arithmeticOf(kernel.features);
    kinds.set(kernel.key, kind);
    flops[kind] = (flops[kind] ?? 0) + launch.flops;
  }
  return flops;
}

/** The work of the steps of one rank. */
export class StepWork {
  /** By bucket. */
  readonly #micros: readonly Work[];
  readonly #update: Work;

  /** @param peaks What the card can do at best, where that was measured. */
  constructor(recording: StepRecording, peaks: Peaks | undefined) {
    this.#micros = microRecordings(recording).map(({ micro }) => workOf(micro, peaks));
    this.#update = workOf(recording.update, peaks);
  }

  /** Work and rates of a step of micro-batches of these buckets that took so long. */
  of(
    buckets: readonly number[],
    seconds: number,
  ): Pick<StepEvent, "secondsPerStep" | "flops" | "trafficBytes" | "flopsPerSecond" | "peakShare"> {
    const total = (key: "flops" | "trafficBytes" | "secondsAtPeak") =>
      buckets.reduce((sum, bucket) => sum + (this.#micros[bucket]![key] ?? NaN), this.#update[key] ?? NaN);
    const flops = total("flops");
    const flopsPerSecond = flops / seconds;
    const peakShare = total("secondsAtPeak") / seconds;
    return {
      secondsPerStep: seconds,
      flops,
      trafficBytes: total("trafficBytes"),
      flopsPerSecond,
      ...(Number.isNaN(peakShare) ? {} : { peakShare }),
    };
  }
}
