/** The stochastic second-order multistep DPM solver of CogVideoX (SDE-DPM-Solver++(2M), arXiv:2211.01095). */
import { alphaAt, type SamplerStep, type Timesteps } from "./timesteps.ts";

/** Half the log signal-to-noise ratio: minus infinity at pure noise, infinity at the clean latent. */
function lambda(a: number): number {
  return 0.5 * Math.log(a / (1 - a));
}

/**
 * Every step of a run. With E = exp(-h), h = lambda(a_prev) - lambda(a_t), written as a root so that neither end is
 * infinite: x = sqrt((1 - a_prev) / (1 - a_t)) E x + sqrt(a_prev) (1 - E^2) D + sqrt((1 - a_prev) (1 - E^2)) n.
 *
 * D is x0 in the first and last step, else (1 + 1/2r) x0 - (1/2r) x0_before with r = (lambda(a_t) - lambda(a_before)) /
 * h.
 *
 * @param alphas cumulative alphas of all training timesteps, in float64.
 */
export function dpmSteps(alphas: Float64Array, { timesteps, stepBack }: Timesteps): SamplerStep[] {
  return timesteps.map((timestep, i) => {
    const a = alphaAt(alphas, timestep);
    const end = timestep - stepBack;
    const target = alphaAt(alphas, end);
    const e = Math.sqrt((a * (1 - target)) / (target * (1 - a)));
    const drift = Math.sqrt(target) * (1 - e ** 2);
    // 1 / 2r, zero where the step before began at pure noise.
    const slope = i === 0 || end < 0 ? 0 : secondOrder(a, target, alphaAt(alphas, timesteps[i - 1]!));
    return {
      timestep,
      signal: Math.sqrt(a),
      sigma: Math.sqrt(1 - a),
      latents: Math.sqrt((1 - target) / (1 - a)) * e,
      clean: drift * (1 + slope),
      previous: -drift * slope,
      noise: Math.sqrt(1 - target) * Math.sqrt(1 - e ** 2),
    };
  });
}

function secondOrder(a: number, target: number, before: number): number {
  return (lambda(target) - lambda(a)) / (2 * (lambda(a) - lambda(before)));
}
