/** Records a matrix product, split along its depth when there are too few output tiles to fill the device. */
import { gemm, gemmPartial, type GemmShape, type GemmSpec, splitK, sumPartials } from "../../kernels/matrix/gemm.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** Operands of one product; storage types come from the tensors. */
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
  const tail = bias === undefined ? [] : [bias];
  const splits = splitK(plan.target, spec, shape);
  if (splits === 1) return plan.launch(gemm(plan.target, spec, shape), [a, b, c, ...tail], [c]);
  const partials = plan.transient("partials", [splits, shape.m, shape.n], "f32");
  plan.launch(gemmPartial(plan.target, spec, shape, splits), [a, b, partials], [partials]);
  plan.launch(sumPartials(spec, shape, splits), [partials, c, ...tail], [c]);
}
