/**
 * The order in which samples are trained on, as pure functions of (seed, micro-step). Nothing is remembered between
 * calls, so a run that resumes at any micro-step continues exactly, and any number of ranks sees the same global order.
 *
 * Words: an epoch is one pass over the dataset in an order of its own. A micro-step is one forward and backward pass,
 * on `batchSize` samples per rank. An optimizer step ends a window of `accumulation` micro-steps, or the epoch: the
 * last micro-batch and the last window of an epoch may be partial, and windows never span two epochs (as in the
 * original trainer).
 */
import { permutation } from "./random.ts";

/** What determines the order. */
export interface SamplerOptions {
  /** Samples in the dataset. */
  samples: number;
  /** Samples per rank and micro-step. */
  batchSize: number;
  /** Micro-steps per optimizer step. */
  accumulation: number;
  seed: number;
  /** Number of ranks (1). */
  world?: number;
  /** Draw an order for every epoch (true); false keeps the dataset's own order. */
  shuffle?: boolean;
}

/** One sample's place in the run. */
export interface SampledItem {
  /** Position in the dataset. */
  index: number;
  /** Number of samples drawn before it in the whole run: names its noise and timestep, whatever rank it is on. */
  globalIndex: number;
}

/** One forward and backward pass of all ranks together. */
export interface MicroStep {
  /** Number of this micro-step in the run, from 0. */
  number: number;
  epoch: number;
  /** Optimizer step that this micro-step contributes to, from 0. */
  step: number;
  /** Position within the accumulation window, from 0. */
  position: number;
  /** Whether the optimizer steps after this micro-step. */
  sync: boolean;
  /** The global micro-batch: rank r takes entries `r * batchSize` to `(r + 1) * batchSize`, see {@linkcode Sampler.share}. */
  items: SampledItem[];
  /**
   * Weight of each sample's loss in the gradient: 1 / (samples of this micro-step * accumulation). A partial window
   * keeps the full `accumulation`, as in the original trainer.
   */
  weight: number;
}

/** Order of a run, see {@linkcode createSampler}. */
export interface Sampler {
  /** Micro-steps per epoch, the partial one included. */
  readonly microStepsPerEpoch: number;
  /** Optimizer steps per epoch, the partial window included. */
  readonly stepsPerEpoch: number;
  /** The micro-step of this number. */
  microStep(number: number): MicroStep;
  /** Number of the first micro-step of an optimizer step: where a run that has done `step` optimizer steps resumes. */
  firstMicroStep(step: number): number;
  /** What one rank works on; empty for the last ranks of a partial micro-batch, which still join the reduction. */
  share(step: MicroStep, rank: number): SampledItem[];
}

function checkCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`Cannot sample as ${name} must be a positive integer: current value is ${value}`);
  }
}

function checkNumber(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`Cannot sample as ${name} must be an integer from 0: current value is ${value}`);
  }
}

/**
 * Makes the order of a run.
 *
 * @throws {RangeError} if a count is not a positive integer.
 */
export function createSampler(options: SamplerOptions): Sampler {
  const { samples, batchSize, accumulation, seed, world = 1, shuffle = true } = options;
  for (const [name, value] of Object.entries({ samples, batchSize, accumulation, world })) checkCount(name, value);
  const globalBatch = batchSize * world;
  const microStepsPerEpoch = Math.ceil(samples / globalBatch);
  const stepsPerEpoch = Math.ceil(microStepsPerEpoch / accumulation);
  let drawn: { epoch: number; order: Uint32Array } | undefined;
  // The order of the current epoch is kept because drawing it costs time in proportion to the dataset.
  const orderOf = (epoch: number): Uint32Array => {
    if (drawn?.epoch !== epoch) drawn = { epoch, order: permutation(seed, epoch, samples) };
    return drawn.order;
  };
  return {
    microStepsPerEpoch,
    stepsPerEpoch,
    microStep(number: number): MicroStep {
      checkNumber("the micro-step", number);
      const epoch = Math.floor(number / microStepsPerEpoch), inEpoch = number % microStepsPerEpoch;
      const first = inEpoch * globalBatch, count = Math.min(globalBatch, samples - first);
      const position = inEpoch % accumulation;
      const items = Array.from({ length: count }, (_, i): SampledItem => {
        const place = first + i;
        return { index: shuffle ? orderOf(epoch)[place] : place, globalIndex: epoch * samples + place };
      });
      return {
        number,
        epoch,
        step: epoch * stepsPerEpoch + Math.floor(inEpoch / accumulation),
        position,
        sync: position === accumulation - 1 || inEpoch === microStepsPerEpoch - 1,
        items,
        weight: 1 / (count * accumulation),
      };
    },
    firstMicroStep(step: number): number {
      checkNumber("the step", step);
      const epoch = Math.floor(step / stepsPerEpoch);
      return epoch * microStepsPerEpoch + (step % stepsPerEpoch) * accumulation;
    },
    share(step: MicroStep, rank: number): SampledItem[] {
      if (!Number.isInteger(rank) || rank < 0 || rank >= world) {
        throw new RangeError(
          `Cannot share a micro-step as the rank must be 0 to ${world - 1}: current value is ${rank}`,
        );
      }
      return step.items.slice(rank * batchSize, (rank + 1) * batchSize);
    },
  };
}
