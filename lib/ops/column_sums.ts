/** Bias gradient: sums the rows of a matrix into a vector that is added to. */
import { columnSums as sums } from "../../kernels/reduce/sums.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

/** into [width] += sum over the rows of g [rows, width]; `into` is f32. */
export function columnSums(plan: Plan, g: Tensor, into: Tensor): void {
  const work = sums(plan.target, { g: g.dtype, accumulate: true }, { rows: g.rows, width: g.width });
  recordWork(plan, work, { g, out: into });
}
