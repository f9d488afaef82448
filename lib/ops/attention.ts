/**
 * Full bidirectional attention without a mask (flash form, arXiv:2205.14135): no [S, S] matrix exists in memory.
 * O = softmax(scale Q K^T) V per head. Saved: Q, K, V, O and the row log-sum-exp L.
 *
 * Backward recomputes P = exp(scale Q K^T - L): delta = rowsum(dO * O), dV = P^T dO, dZ = P * (dO V^T - delta),
 * dQ = scale dZ K, dK = scale dZ^T Q.
 */
import {
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionDelta,
  attentionForward,
} from "../../kernels/attention/attention.ts";
import { paddedSequence } from "../../kernels/attention/shape.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

/**
 * Records O [batch, sequence, heads * headDim] from rotated queries and keys. Kept as `attention` by checkpoint
 * policies.
 */
export function attention(plan: Plan, q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  const [batch, sequence, width] = q.shape as [number, number, number];
  const headDim = width / heads;
  const spec = { dtype: q.dtype, headDim };
  const shape = { batch, heads, sequence, scale: 1 / Math.sqrt(headDim) };
  const rowValues = [batch, heads, paddedSequence(sequence)];
  const [o, lse] = plan.keepable("attention", () => {
    const output = plan.transient("attention", q.shape, q.dtype, [q, k, v]);
    const logSumExp = plan.transient("lse", rowValues, "f32");
    const operands = { query: q, key: k, value: v, o: output, lse: logSumExp };
    recordWork(plan, attentionForward(plan.target, spec, shape), operands);
    return [output, logSumExp];
  }) as [Tensor, Tensor];
  return plan.differentiable(o, (dO) => {
    const delta = plan.transient("delta", rowValues, "f32");
    plan.launch(attentionDelta(spec, shape), [o, dO, delta], [delta]);
    const operands = { query: q, key: k, value: v, dout: dO, lse, delta };
    if (q.needsGrad) {
      recordWork(plan, attentionBackwardQuery(plan.target, spec, shape), { ...operands, dq: collector(plan, q) });
    }
    if (!k.needsGrad && !v.needsGrad) return;
    const gradients = { dk: collector(plan, k), dv: collector(plan, v) };
    recordWork(plan, attentionBackwardKeyValue(plan.target, spec, shape), { ...operands, ...gradients });
  });
}

/** Where the gradient of an operand goes: scratch memory when nobody needs it, for keys and values share a kernel. */
function collector(plan: Plan, operand: Tensor): Tensor {
  let gradient: Tensor | undefined;
  plan.contribute(operand, (into, accumulate) => {
    if (accumulate) {
      throw new Error(`"${operand.name}" feeds attention and something else, which the kernel cannot add to`);
    }
    gradient = into;
  });
  return gradient ?? plan.transient("scratch", operand.shape, operand.dtype);
}
