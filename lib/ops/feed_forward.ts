/**
 * Feed-forward of a transformer block, y = gelu(x W1^T + b1) W2^T + b2. Its inner activations are four times as wide as
 * x, so they exist for a range of rows at a time; backward computes them again from x, as checkpointing would.
 */
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { gelu } from "./activation.ts";
import { linear, linearInputs, linearInto, type LinearWeights } from "./linear.ts";

/** Records y of x [..., width]. */
export function feedForward(plan: Plan, x: Tensor, inner: LinearWeights, outer: LinearWeights): Tensor {
  const inputs = [...linearInputs(x, inner), ...linearInputs(x, outer)];
  const y = plan.transient("feed forward", [...x.shape.slice(0, -1), outer.weight.shape[0]!], x.dtype, inputs);
  return plan.inRows(x, y, (rows, into) => {
    linearInto(plan, gelu(plan, linear(plan, rows, inner)), outer, into);
  });
}
