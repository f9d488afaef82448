/** Records a matrix product; storage types come from the tensors. */
import { gemm } from "../../kernels/matrix/gemm.ts";
import type { GemmShape, GemmSpec } from "../../kernels/matrix/gemm_shape.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

/** Operands of one product. */
export interface Product {
  readonly layout: GemmSpec["layout"];
  readonly a: Tensor;
  readonly b: Tensor;
  readonly c: Tensor;
  readonly bias?: Tensor | undefined;
  /** Adds to `c` instead of overwriting it. */
  readonly accumulate?: boolean;
  readonly activation?: "gelu" | "silu";
}

/** c = activation(alpha * op(a) op(b) + bias) (+ c). NN: [M,K][K,N]; NT: [M,K][N,K]; TN: [K,M][K,N]. */
export function matmul(plan: Plan, product: Product, shape: GemmShape): void {
  const { layout, a, b, c, bias, accumulate = false, activation } = product;
  const spec: GemmSpec = {
    layout,
    a: a.dtype,
    b: b.dtype,
    c: c.dtype,
    ...(bias === undefined ? {} : { bias: bias.dtype }),
    ...(accumulate ? { accumulate } : {}),
    ...(activation === undefined ? {} : { activation }),
  };
  recordWork(plan, gemm(plan.target, spec, shape), { a, b, c, ...(bias === undefined ? {} : { bias }) });
}
