/** Bias gradient: sums the rows of a matrix into a vector that is added to. */
import { columnSums as firstStage, columnSumsPartials, finishColumnSums } from "../../kernels/reduce/sums.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** into [width] += sum over the rows of g [rows, width]; `into` is f32. */
export function columnSums(plan: Plan, g: Tensor, into: Tensor): void {
  const shape = { rows: g.rows, width: g.width };
  const partials = plan.transient("partials", [columnSumsPartials(shape)], "f32");
  plan.launch(firstStage({ g: g.dtype }, shape), [g, partials], [partials]);
  plan.launch(finishColumnSums({ accumulate: true }, shape), [partials, into], [into]);
}
