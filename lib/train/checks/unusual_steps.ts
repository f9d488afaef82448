/** Steps that stand out from those before: a gradient far above the others, or a step that takes far longer. */
import type { StepEvent, WarningEvent } from "../report/events.ts";

/** Steps that a step is compared with, and the fewest that make a median. */
const WINDOW = 64;
const FEWEST = 16;

/** A norm this many times the median is told; 400 steps of a small model had one of 5.3 at most. */
const SPIKE = 10;

/** A step this many times as long as the median is told, when it took seconds more that somebody would miss. */
const SLOW = 5;
const SLOW_SECONDS = 10;

/** What a step was made of, on this rank. */
export interface StepParts {
  readonly clips: readonly string[];
  /** Seconds spent on reading clips from the cache, and on waiting for other ranks. */
  readonly reading: number;
  readonly waiting: number;
}

/** Remembers the last steps of a run. */
export class UnusualSteps {
  readonly #norms: number[] = [];
  readonly #seconds: number[] = [];
  /** Step up to which nothing more of a kind is told: what goes on is told once a window. */
  readonly #quiet = { norm: 0, seconds: 0 };

  /** Takes note of a step. Returns what is unusual about it. */
  look({ step, gradNorm, secondsPerStep, ranks }: StepEvent, parts: StepParts): WarningEvent[] {
    const norm = medianOf(this.#norms);
    const seconds = medianOf(this.#seconds);
    const messages: string[] = [];
    if (norm !== undefined && gradNorm > SPIKE * norm && step > this.#quiet.norm) {
      this.#quiet.norm = step + WINDOW;
      const times = Math.round(gradNorm / norm);
      messages.push(
        `step ${step}: the norm of the gradients, ${
          gradNorm.toPrecision(3)
        }, is ${times} times the median of the steps ` +
          `before, on ${parts.clips.join(", ")}: look at these clips; when it happens with others too, lower ` +
          "learning_rate, or set max_grad_norm: 1 where it is 0",
      );
    }
    if (
      seconds !== undefined && secondsPerStep > SLOW * seconds && secondsPerStep > seconds + SLOW_SECONDS &&
      step > this.#quiet.seconds
    ) {
      this.#quiet.seconds = step + WINDOW;
      const times = Math.round(secondsPerStep / seconds);
      messages.push(
        `step ${step} took ${secondsPerStep.toFixed(1)} s, ${times} times the median of the steps before: ` +
          whereTime(secondsPerStep, parts, ranks),
      );
    }
    remember(this.#norms, gradNorm);
    remember(this.#seconds, secondsPerStep);
    return messages.map((message) => ({ type: "warning", message }));
  }
}

/** The parts of a slow step, and what to look at for the largest. */
function whereTime(seconds: number, { reading, waiting }: StepParts, ranks: StepEvent["ranks"] = []): string {
  const slowest = ranks.findIndex((rank) => rank.seconds === Math.max(...ranks.map(({ seconds }) => seconds)));
  const parts = [
    { name: "reading clips", seconds: reading, look: "cache_dir may lie on a slow or busy disk" },
    { name: "waiting for other ranks", seconds: waiting, look: `look at rank ${slowest}` },
    {
      name: "GPU, driver and memory",
      seconds: seconds - reading - waiting,
      look: "other programs may use the GPU, it may be hot, or the machine may swap memory",
    },
  ].filter(({ seconds }) => seconds >= 0.05);
  const largest = parts.reduce((a, b) => b.seconds > a.seconds ? b : a);
  return `${parts.map(({ name, seconds }) => `${seconds.toFixed(1)} s ${name}`).join(", ")}; ${largest.look}`;
}

function remember(values: number[], value: number): void {
  values.push(value);
  if (values.length > WINDOW) values.shift();
}

/** Undefined while there are too few. */
function medianOf(values: readonly number[]): number | undefined {
  return values.length < FEWEST ? undefined : values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
