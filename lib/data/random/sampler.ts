/**
 * The order in which samples are trained on, as pure functions of (seed, micro-step). Nothing is remembered between
 * calls, so a run that resumes at any micro-step continues exactly, and any number of ranks sees the same order.
 *
 * Words: an epoch is one pass over the dataset in an order of its own. A micro-step is one forward and backward pass,
 * on `batchSize` samples. An optimizer step ends a window of `accumulation` micro-steps, which the ranks share out
 * among themselves, or the epoch: the last micro-batch and the last window of an epoch may be partial, and windows
 * never span two epochs (as in the original trainer). With buckets, every batch is of one bucket: batches are filled in
 * the order of the epoch, and come in the order of their first samples.
 */
import { permutation } from "./random.ts";

/** What determines the order. */
export interface SamplerOptions {
  /** Samples in the dataset. */
  readonly samples: number;
  /** Samples per micro-step. */
  readonly batchSize: number;
  /** Micro-steps per optimizer step, over all ranks. */
  readonly accumulation: number;
  readonly seed: number;
  /** The bucket of each sample; all are of one when not given. */
  readonly buckets?: readonly number[];
}

/** One sample's place in the run. */
export interface SampledItem {
  /** Position in the dataset. */
  readonly index: number;
  /** Number of samples drawn before it in the whole run: names its noise and timestep, whatever rank it is on. */
  readonly globalIndex: number;
}

/** One forward and backward pass. */
export interface MicroStep {
  /** Number of this micro-step in the run, from 0. */
  readonly number: number;
  /** Whether the optimizer steps after this micro-step. */
  readonly sync: boolean;
  /** At least one and at most `batchSize`. */
  readonly items: readonly SampledItem[];
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
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new RangeError(`Cannot sample as ${name} must be a positive integer: current value is ${value}`);
}

function checkNumber(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new RangeError(`Cannot sample as ${name} must be an integer from 0: current value is ${value}`);
}

/** Samples of one bucket, with the number of samples in the batches of the epoch before it. */
interface Batch {
  readonly first: number;
  readonly indices: readonly number[];
}

function fillBatches(order: Uint32Array, bucketOf: (index: number) => number, size: number): Batch[] {
  const open = new Map<number, number[]>();
  const batches: number[][] = [];
  for (const index of order) {
    const bucket = bucketOf(index);
    const batch = open.get(bucket);
    if (batch !== undefined && batch.length < size) batch.push(index);
    else {
      const begun = [index];
      open.set(bucket, begun);
      batches.push(begun);
    }
  }
  let first = 0;
  return batches.map((indices) => {
    first += indices.length;
    return { first: first - indices.length, indices };
  });
}

/**
 * Makes the order of a run.
 *
 * @throws {RangeError} if a count is not a positive integer.
 */
export function createSampler({ samples, batchSize, accumulation, seed, buckets }: SamplerOptions): Sampler {
  for (const [name, value] of Object.entries({ samples, batchSize, accumulation })) checkCount(name, value);
  const bucketOf = (index: number) => buckets?.[index] ?? 0;
  const sizes = [...Map.groupBy(Array.from({ length: samples }, (_, index) => index), bucketOf).values()];
  const microStepsPerEpoch = sizes.reduce((sum, { length }) => sum + Math.ceil(length / batchSize), 0);
  const stepsPerEpoch = Math.ceil(microStepsPerEpoch / accumulation);
  let drawn: { readonly epoch: number; readonly batches: readonly Batch[] } | undefined;
  // The batches of the current epoch are kept because drawing them costs time in proportion to the dataset.
  const batchesOf = (epoch: number): readonly Batch[] => {
    if (drawn?.epoch !== epoch) {
      drawn = { epoch, batches: fillBatches(permutation(seed, epoch, samples), bucketOf, batchSize) };
    }
    return drawn.batches;
  };
  return {
    microStepsPerEpoch,
    stepsPerEpoch,
    microStep(number) {
      checkNumber("the micro-step", number);
      const epoch = Math.floor(number / microStepsPerEpoch);
      const inEpoch = number % microStepsPerEpoch;
      const { first, indices } = batchesOf(epoch)[inEpoch]!;
      return {
        number,
        sync: (inEpoch + 1) % accumulation === 0 || inEpoch === microStepsPerEpoch - 1,
        items: indices.map((index, i) => ({ index, globalIndex: epoch * samples + first + i })),
      };
    },
    firstMicroStep(step) {
      checkNumber("the step", step);
      const epoch = Math.floor(step / stepsPerEpoch);
      return epoch * microStepsPerEpoch + (step % stepsPerEpoch) * accumulation;
    },
  };
}
