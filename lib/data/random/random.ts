/** Random numbers that are functions of a key: seed, purpose, step and sample. */
import { philox } from "./philox.ts";

/**
 * What random numbers are for. Streams of different purposes are independent, so adding a draw to one never shifts
 * another. The numbers are part of every run's identity: they may be added to but not changed.
 */
export const purposes = {
  /** Order of samples in an epoch. */
  order: 1,
  /** Timestep of a training sample. */
  timestep: 2,
  /** Noise added to the latents. */
  noise: 3,
  /** Sample from the VAE posterior of the video. */
  posterior: 4,
  /** Strength of the noise on the conditioning image. */
  imageSigma: 5,
  /** Noise on the conditioning image. */
  imageNoise: 6,
  /** Sample from the VAE posterior of the conditioning image. */
  imagePosterior: 7,
  /** Whether a caption is dropped. */
  captionDropout: 8,
  /** Initial weights; the sample index numbers the tensors. */
  weights: 9,
  /** Initial latents of a sampler run. */
  initialLatents: 10,
  /** Noise that a stochastic sampler adds per step. */
  samplerNoise: 11,
  /** Crop positions, flips and frame offsets. */
  augmentation: 12,
  /** Stochastic rounding. */
  rounding: 13,
  /** Latents and prompts of a run without encoders; the sample index numbers the tensors. */
  drawnSample: 14,
} as const;

/** One of {@linkcode purposes}. */
export type Purpose = keyof typeof purposes;

/** Names one stream of random numbers. */
export interface StreamKey {
  /** The seed of the run, 0 to 2^53 - 1. */
  readonly seed: number;
  /** What the numbers are for. */
  readonly purpose: Purpose;
  /** Training step or epoch, 0 to 2^32 - 1. */
  readonly step: number;
  /** Global index of the sample, whatever rank it is on, 0 to 2^32 - 1. */
  readonly sample: number;
}

/**
 * The random numbers of one (seed, purpose, step, sample): a function of the key alone, whatever was drawn before, on
 * whichever rank. Philox4x32-10 with the seed as key and (block, purpose, sample, step) as counter.
 *
 * All results are the same bits on every machine: integers, or float64 sums, products, quotients and square roots,
 * which IEEE 754 rounds exactly. `Math.log`, `Math.sin` and `Math.cos` are not used: V8 compiles its own (fdlibm), the
 * same for one version and architecture, but ECMAScript leaves their last bits open.
 */
export class RandomStream {
  readonly #keyLow: number;
  readonly #keyHigh: number;
  readonly #purpose: number;
  readonly #sample: number;
  readonly #step: number;
  readonly #words = new Uint32Array(4);
  /** Blocks of four words used up. */
  #block = 0;
  /** Words of the last block used up. */
  #used = 4;

  /**
   * The stream of a key, at its beginning.
   *
   * @throws {RangeError} for a seed, step or sample out of range.
   */
  constructor({ seed, purpose, step, sample }: StreamKey) {
    this.#keyLow = checkInteger("seed", seed, 2 ** 53) | 0;
    this.#keyHigh = Math.floor(seed / 2 ** 32);
    this.#purpose = purposes[purpose];
    this.#sample = checkInteger("sample", sample, 2 ** 32);
    this.#step = checkInteger("step", step, 2 ** 32);
  }

  /** 32 random bits. */
  uint32(): number {
    if (this.#used === 4) {
      this.#nextBlock();
      this.#used = 0;
    }
    return this.#words[this.#used++]!;
  }

  /** A float64 in [0, 1), one of 2^53 equally likely ones. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** An integer in [0, n), all equally likely; n is 1 to 2^32. */
  integer(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new RangeError(`Cannot draw an integer below ${n}: the bound must be an integer from 1 to 2^32`);
    }
    // The incomplete last group of n words would favour small results, so it is drawn again.
    const limit = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const word = this.uint32();
      if (word < limit) return word % n;
    }
  }

  /**
   * Fills `out` with standard normal numbers (Box-Muller in float64, rounded to float32, largest magnitude 6.76).
   * Starts with a fresh block of four words and drops what is left of the last one.
   */
  fillNormals<T extends Float32Array | Float64Array>(out: T): T {
    const words = this.#words;
    for (let i = 0; i < out.length; i += 4) {
      this.#nextBlock();
      for (let j = 0; j < 4; j += 2) {
        // Writes beyond the end of a typed array are dropped.
        const radius = Math.sqrt(-2 * logUnit(words[j]!));
        const angle = words[j + 1]!;
        out[i + j] = radius * cosTurn(angle);
        out[i + j + 1] = radius * sinTurn(angle);
      }
    }
    this.#used = 4;
    return out;
  }

  #nextBlock(): void {
    if (this.#block === 2 ** 32) throw new RangeError("A random stream ends after 2^34 words");
    philox(this.#keyLow, this.#keyHigh, this.#block++, this.#purpose, this.#sample, this.#step, this.#words);
  }
}

/** A random order of the integers below `n` (Fisher-Yates), a function of seed and epoch alone. */
export function permutation(seed: number, epoch: number, n: number): Uint32Array<ArrayBuffer> {
  const order = Uint32Array.from({ length: checkInteger("size", n, 2 ** 32) }, (_, i) => i);
  const stream = new RandomStream({ seed, purpose: "order", step: epoch, sample: 0 });
  for (let i = n - 1; i > 0; i--) {
    const j = stream.integer(i + 1);
    const swap = order[i]!;
    order[i] = order[j]!;
    order[j] = swap;
  }
  return order;
}

function checkInteger(what: string, value: number, limit: number): number {
  if (Number.isInteger(value) && value >= 0 && value < limit) return value;
  throw new RangeError(`Cannot use ${what} ${value}: it must be an integer from 0 to ${limit - 1}`);
}

/** 2^-k for k from -1 to 31, at index k + 1. */
const powers = Float64Array.from({ length: 33 }, (_, i) => 2 ** (1 - i));

/** ln((word + 1/2) / 2^32), to 1e-12. */
function logUnit(word: number): number {
  // (word + 1/2) = m 2^k with m in [1/sqrt(2), sqrt(2)]; ln m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172.
  let k = 31 - Math.clz32(word);
  let m = (word + 0.5) * powers[k + 1]!;
  if (m > Math.SQRT2) {
    m *= 0.5;
    k++;
  }
  const s = (m - 1) / (m + 1);
  const q = s * s;
  const series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))));
  return (k - 32) * Math.LN2 + 2 * s * series;
}

/** cos(2 pi word / 2^32), to 1e-13. */
function cosTurn(word: number): number {
  return sinTurn((word + 0x40000000) >>> 0);
}

/** sin(2 pi word / 2^32), to 1e-13. */
function sinTurn(word: number): number {
  // The nearest quarter turn and an exact remainder within an eighth; then Taylor series around zero.
  const quarter = (word + 0x20000000) >>> 30;
  const x = ((word - quarter * 0x40000000) | 0) * (2 * Math.PI / 2 ** 32);
  const q = x * x;
  const value = quarter & 1
    ? 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56 * (1 - q / 90 * (1 - q / 132 * (1 - q / 182))))))
    : x * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110 * (1 - q / 156))))));
  return quarter & 2 ? -value : value;
}
