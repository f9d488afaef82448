/**
 * Noise in, loss out. x_t = sqrt(a) z + sqrt(1-a) eps; the loss is mean((v - v*)^2) with v* = sqrt(a) eps - sqrt(1-a)
 * z, equal to the weighted x0 loss of the original trainer and free of its large weights.
 */
import {
  finishVelocityLoss,
  velocityLoss as loss,
  velocityLossSlots,
  velocityTarget as target,
} from "../../kernels/diffusion/velocity.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** The noisy latent and the velocity the model has to predict. */
export interface Noised {
  readonly noisy: Tensor;
  readonly velocity: Tensor;
}

/**
 * Records x_t and v* of latents [batch, ...]; `coefficients` is f32 [batch, 4]: sqrt(a), sqrt(1-a), gradient scale,
 * loss weight.
 */
export function velocityTarget(plan: Plan, latents: Tensor, eps: Tensor, coefficients: Tensor): Noised {
  const batch = latents.shape[0]!;
  const noisy = plan.transient("noisy", latents.shape, "f32");
  const velocity = plan.transient("velocity", latents.shape, "f32");
  const shape = { batch, elements: latents.size / batch };
  plan.launch(target(shape), [latents, eps, coefficients, noisy, velocity], [noisy, velocity]);
  return { noisy, velocity };
}

/**
 * Records the loss into `slot` (f32 [4], first value) and returns its gradient in `v`, scaled by the third coefficient
 * of each sample: loss scale * loss weight / accumulation.
 */
export function velocityLoss(plan: Plan, v: Tensor, velocity: Tensor, coefficients: Tensor, slot: Tensor): Tensor {
  const batch = v.shape[0]!;
  const shape = { batch, elements: v.size / batch };
  const partials = plan.transient("loss partials", [velocityLossSlots(shape), 4], "f32");
  const dv = plan.transient("d velocity", v.shape, v.dtype);
  plan.launch(
    loss(plan.target, { v: v.dtype, dv: dv.dtype }, shape),
    [v, velocity, coefficients, dv, partials],
    [dv, partials],
  );
  plan.launch(finishVelocityLoss(plan.target, shape), [partials, slot], [slot]);
  return dv;
}
