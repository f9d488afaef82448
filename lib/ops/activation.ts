/** Elementwise activations: gelu (tanh form) and silu. Saved: the input. */
import { gelu as geluForward, geluBackward, silu as siluForward, siluBackward } from "../../kernels/rows/flat.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

const kinds = {
  gelu: { forward: geluForward, backward: geluBackward },
  silu: { forward: siluForward, backward: siluBackward },
};

function activation(plan: Plan, kind: keyof typeof kinds, x: Tensor): Tensor {
  const { forward, backward } = kinds[kind];
  const shape = { elements: x.size };
  const y = plan.transient(kind, x.shape, x.dtype, [x]);
  recordWork(plan, forward(plan.target, { x: x.dtype, y: y.dtype }, shape), { x, y });
  return plan.differentiable(y, (g) => {
    plan.contribute(x, (dx, accumulate) => {
      if (accumulate) throw new Error(`"${x.name}" feeds ${kind} and something else, which the kernel cannot add to`);
      recordWork(plan, backward(plan.target, { x: x.dtype, g: g.dtype, dx: dx.dtype }, shape), { x, g, dx });
    });
  });
}

/** Records y = gelu(x), tanh form. */
export function gelu(plan: Plan, x: Tensor): Tensor {
  return activation(plan, "gelu", x);
}

/** Records y = x sigmoid(x). */
export function silu(plan: Plan, x: Tensor): Tensor {
  return activation(plan, "silu", x);
}
