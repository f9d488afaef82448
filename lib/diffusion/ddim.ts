/** DDIM as CogVideoX takes it: deterministic (Song et al. 2021, arXiv:2010.02502), zero terminal SNR. */
import { alphaAt, type SamplerStep, type Timesteps } from "./timesteps.ts";

/**
 * Every step of a run: x = A x + (sqrt(a_prev) - sqrt(a_t) A) x0 with A = sqrt((1 - a_prev) / (1 - a_t)).
 *
 * @param alphas cumulative alphas of all training timesteps, in float64.
 */
export function ddimSteps(alphas: Float64Array, { timesteps, stepBack }: Timesteps): SamplerStep[] {
  return timesteps.map((timestep) => {
    const a = alphaAt(alphas, timestep);
    const target = alphaAt(alphas, timestep - stepBack);
    const latents = Math.sqrt((1 - target) / (1 - a));
    return {
      timestep,
      signal: Math.sqrt(a),
      sigma: Math.sqrt(1 - a),
      latents,
      clean: Math.sqrt(target) - Math.sqrt(a) * latents,
      previous: 0,
      noise: 0,
    };
  });
}
