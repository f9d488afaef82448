/**
 * Dropout y = x m / (1 - rate), m zero with probability `rate` and one otherwise; backward, dx += dy m / (1 - rate).
 * Nothing is saved: m is drawn again from its key.
 */
import { dropout } from "../../kernels/rows/dropout.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** Which elements of a tensor are dropped. */
export interface Dropout {
  readonly rate: number;
  /** u32 [4], of which two words name the micro-batch. */
  readonly key: Tensor;
  /** Number of the tensor among those that draw from the key. */
  readonly layer: number;
}

/** Records drop(x) for rows that begin at `firstRow` of the whole, into `y`; adds to it with `accumulate`. */
export function dropInto(
  plan: Plan,
  x: Tensor,
  y: Tensor,
  { rate, key, layer }: Dropout,
  { firstRow, accumulate = false }: { readonly firstRow: number; readonly accumulate?: boolean },
): Tensor {
  const shape = { elements: x.size, first: firstRow * x.width, layer, rate };
  plan.launch(dropout({ x: x.dtype, y: y.dtype, accumulate }, shape), [x, key, y], [y]);
  return y;
}
