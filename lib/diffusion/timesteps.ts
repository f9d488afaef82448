/** Which training timesteps a sampler visits, and the shape every sampler step has in common. */
import { roundHalfEven } from "../rounding.ts";

/** How the visited timesteps can be spread; every released model is sampled with `trailing`. */
export const SPACINGS = ["trailing", "leading", "linspace"] as const;

/** One of {@linkcode SPACINGS}. */
export type Spacing = typeof SPACINGS[number];

/** The timesteps of a run, descending, and how far below each of them its step ends. */
export interface Timesteps {
  readonly timesteps: readonly number[];
  /**
   * A step leads from t to t - stepBack, which is not the next entry of the list when the steps do not divide the
   * total.
   */
  readonly stepBack: number;
}

/**
 * The timesteps of `steps` sampler steps over `total` training timesteps, as diffusers spaces them.
 *
 * @throws {RangeError} when `steps` is not an integer from 1 to `total`.
 */
export function spaceTimesteps(steps: number, spacing: Spacing, total: number): Timesteps {
  if (!Number.isInteger(steps) || steps < 1 || steps > total) {
    throw new RangeError(`Cannot sample in ${steps} steps: the number of steps must be an integer from 1 to ${total}`);
  }
  const stepBack = Math.floor(total / steps);
  const at = (i: number): number => {
    switch (spacing) {
      case "trailing":
        return roundHalfEven(total - i * (total / steps)) - 1;
      case "leading":
        return (steps - 1 - i) * stepBack;
      case "linspace":
        return steps === 1 ? 0 : roundHalfEven((steps - 1 - i) * ((total - 1) / (steps - 1)));
    }
  };
  return { timesteps: Array.from({ length: steps }, (_, i) => at(i)), stepBack };
}

/**
 * The part of a run that a video to start from leaves: the last floor(steps * strength) timesteps, as the
 * video-to-video pipeline of diffusers keeps them.
 *
 * @throws {RangeError} when `strength` is not above 0 and at most 1, or leaves no step.
 */
export function keepStrength({ timesteps, stepBack }: Timesteps, strength: number): Timesteps {
  const kept = Math.min(Math.floor(timesteps.length * strength), timesteps.length);
  if (!(strength > 0 && strength <= 1) || kept === 0) {
    throw new RangeError(
      `Cannot use strength ${strength} with ${timesteps.length} steps: it must be above 0, at most 1, and leave a step`,
    );
  }
  return { timesteps: timesteps.slice(timesteps.length - kept), stepBack };
}

/**
 * One sampler step as a linear combination. With the model's velocity v at timestep t:
 * x0 = signal * x - sigma * v, then x = latents * x + clean * x0 + previous * (x0 of the step before) + noise * n.
 */
export interface SamplerStep {
  readonly timestep: number;
  /** sqrt(a_t). */
  readonly signal: number;
  /** sqrt(1 - a_t). */
  readonly sigma: number;
  readonly latents: number;
  readonly clean: number;
  readonly previous: number;
  readonly noise: number;
}

/** a at the timestep a step ends at; below 0 lies the clean latent, where a is 1. */
export function alphaAt(alphas: Float64Array, timestep: number): number {
  return timestep < 0 ? 1 : alphas[timestep]!;
}
