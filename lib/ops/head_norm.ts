/**
 * Layer norm of queries or keys over the channels of each head, then the rotation of video rows (RoPE,
 * arXiv:2104.09864). Backward rotates the gradient back and goes through the norm; statistics are recomputed from the
 * saved input.
 */
import { headNorm as forward, headNormBackward } from "../../kernels/norm/head.ts";
import { headNormColumns } from "../../kernels/norm/head_parameters.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";
import type { NormWeights, Segments } from "./layer_norm.ts";

/** Rotary tables, f32 [video tokens, headDim / 2]. */
export interface Rotary {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** Records the normalised (and, with `rotary`, rotated) queries or keys x [batch, sequence, heads * headDim]. */
export function headNorm(
  plan: Plan,
  x: Tensor,
  { gamma, beta }: NormWeights,
  segments: Segments,
  eps: number,
  rotary?: Rotary,
): Tensor {
  const shape = { rows: x.rows, ...segments, heads: x.width / gamma.size, eps };
  const rotate = rotary !== undefined;
  const tables: Readonly<Record<string, Tensor>> = rotate ? { cosines: rotary.cos, sines: rotary.sin } : {};
  const spec = { dtype: x.dtype, param: gamma.dtype, rotate };
  const y = plan.transient("head norm", x.shape, x.dtype, [x, gamma, beta]);
  recordWork(plan, forward(plan.target, spec, shape), { x, gamma, beta, y, ...tables });
  return plan.differentiable(y, (g) => {
    plan.contribute(x, (dx, accumulate) => {
      if (accumulate) {
        throw new Error(`"${x.name}" feeds a head norm and something else, which the kernel cannot add to`);
      }
      recordWork(plan, headNormBackward(plan.target, spec, shape), { x, gamma, g, dx, ...tables });
    });
    const [d_gamma, d_beta] = [gamma.gradient, beta.gradient];
    if (d_gamma === undefined || d_beta === undefined) return;
    const work = headNormColumns(plan.target, { dtype: x.dtype, rotate }, shape);
    recordWork(plan, work, { x, g, d_gamma, d_beta, ...tables });
  });
}
