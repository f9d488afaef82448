/** Sums of tensors. The gradient of a sum is handed on unchanged to every summand that needs one. */
import { add, addInPlace, convert } from "../../kernels/rows/flat.ts";
import { addTable } from "../../kernels/rows/by_row.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** into += g: how a gradient joins one that another consumer left first. */
export function addGradient(plan: Plan): (into: Tensor, g: Tensor) => void {
  return (into, g) => plan.launch(addInPlace({ a: into.dtype, b: g.dtype }, { elements: g.size }), [into, g], [into]);
}

/** Records a + b. */
export function addTensors(plan: Plan, a: Tensor, b: Tensor): Tensor {
  const out = plan.transient("sum", a.shape, a.dtype, [a, b]);
  plan.launch(add({ a: a.dtype, b: b.dtype, out: out.dtype }, { elements: a.size }), [a, b, out], [out]);
  return plan.differentiable(out, (g) => {
    // Both summands may go on to add to their gradient, so only one of them can own this tensor.
    plan.contribute(b, (db, accumulate) => {
      if (accumulate) addGradient(plan)(db, g);
      else plan.launch(convert({ x: g.dtype, y: db.dtype }, { elements: g.size }), [g, db], [db]);
    });
    plan.passOn(a, g, addGradient(plan));
  });
}

/** Adds constant positions [sequence, width] to every batch element of x, in place: nothing else has read x yet. */
export function addPositions(plan: Plan, x: Tensor, table: Tensor): Tensor {
  const shape = { rows: x.rows, sequence: table.rows, width: x.width };
  plan.launch(addTable({ x: x.dtype, table: table.dtype }, shape), [x, table], [x]);
  return x;
}
