/**
 * Gated residual z = x + gate * y, with the gate of the row's batch element and segment.
 * Backward: dx = g (handed on), dy = gate * g, dGate = sum over rows of g * y. Saved: y, only when the gate needs a
 * gradient.
 */
import { gatedResidual as forward, gatedResidualBackward } from "../../kernels/rows/by_row.ts";
import { gateSums } from "../../kernels/reduce/sums.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";
import { addGradient } from "./add.ts";
import type { Segments } from "./layer_norm.ts";

/** Gate chunks (in units of the width) inside each row of the modulation, f32 [batch, chunks * width]. */
export interface Gates {
  readonly tensor: Tensor;
  readonly gateText: number;
  readonly gateVideo: number;
}

/** Records x + gate * y for tensors [batch, sequence, width]. */
export function gatedResidual(plan: Plan, x: Tensor, y: Tensor, gates: Gates, segments: Segments): Tensor {
  const gate = gates.tensor;
  const width = x.width;
  const shape = {
    rows: x.rows,
    ...segments,
    width,
    stride: gate.width,
    gateText: gates.gateText * width,
    gateVideo: gates.gateVideo * width,
  };
  const z = plan.transient("residual", x.shape, x.dtype, [x, y, gate]);
  recordWork(plan, forward(plan.target, { x: x.dtype, y: y.dtype, out: z.dtype }, shape), { x, gate, y, out: z });
  return plan.differentiable(z, (g) => {
    plan.contribute(y, (dy, accumulate) => {
      if (accumulate) throw new Error(`"${y.name}" feeds a gate and something else, which the kernel cannot add to`);
      recordWork(plan, gatedResidualBackward(plan.target, { g: g.dtype, dy: dy.dtype }, shape), { gate, g, dy });
    });
    // Shift and scale of the same modulation are written by the layer norm: every chunk has exactly one writer.
    plan.contribute(gate, (dGate) => {
      const columns = { ...shape, batch: x.rows / segments.sequence };
      recordWork(plan, gateSums(plan.target, { g: g.dtype, y: y.dtype }, columns), { g, y, out: dGate });
    });
    plan.passOn(x, g, addGradient(plan));
  });
}
