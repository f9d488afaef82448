/**
 * Linear layer y = x W^T + b, with an optional low-rank adapter: y += s (D(x) A^T) B^T (LoRA, arXiv:2106.09685), D
 * dropout or x.
 *
 * Backward, g = dL/dy:  dx = g W + D(t A),  dW += g^T x,  db += sum g,  dB += s g^T h,  dA += t^T D(x),
 * with h = D(x) A^T kept from the forward and t = s g B.
 */
import type { DType } from "../../kernels/core/kernel.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { columnSums } from "./column_sums.ts";
import { rowNorms, scaleByMagnitude } from "./dora.ts";
import { dropInto, type Dropout } from "./dropout.ts";
import { matmul } from "./matmul.ts";

/** A low-rank update of one linear layer. Ranks that are no multiple of four are padded with zeros, which stay zero. */
export interface Adapter {
  /** [rank, in]. */
  readonly down: Tensor;
  /** [out, rank]. */
  readonly up: Tensor;
  /** alpha / rank. */
  readonly scale: number;
  /** [out], f32: the norms that the rows of W + scale B A are given (DoRA). */
  readonly magnitude?: Tensor;
  /** While training, what of the adapter's input is dropped. */
  readonly dropout?: Dropout;
}

/** Weights of one linear layer. */
export interface LinearWeights {
  /** [out, in], as stored in checkpoints. */
  readonly weight: Tensor;
  /** [out]. */
  readonly bias?: Tensor | undefined;
  readonly adapter?: Adapter | undefined;
}

/** Tensors whose gradient goes through a layer. */
export function linearInputs(x: Tensor, { weight, bias, adapter }: LinearWeights): Tensor[] {
  const trained = adapter ? [adapter.down, adapter.up, ...(adapter.magnitude ? [adapter.magnitude] : [])] : [];
  return [x, weight, ...(bias ? [bias] : []), ...trained];
}

/** Records y [..., out] = x [..., in] W^T + b. `dtype` is the storage of y; by default that of x. */
export function linear(plan: Plan, x: Tensor, weights: LinearWeights, dtype: DType = x.dtype): Tensor {
  const shape = [...x.shape.slice(0, -1), weights.weight.shape[0]!];
  return linearInto(plan, x, weights, plan.transient("linear", shape, dtype, linearInputs(x, weights)));
}

/** {@linkcode linear} that writes to a tensor of the caller, which says whether it needs a gradient. */
export function linearInto(plan: Plan, x: Tensor, weights: LinearWeights, y: Tensor): Tensor {
  const { weight, bias, adapter } = weights;
  const [n, k] = weight.shape as [number, number];
  if (x.width !== k) {
    throw new RangeError(`Cannot apply "${weight.name}" [${weight.shape}] to "${x.name}" [${x.shape}]: widths differ`);
  }
  if (adapter?.magnitude !== undefined) {
    const { magnitude, ...update } = adapter;
    const norms = rowNorms(plan, weight, update, plan.transient("norms", [n], "f32"));
    const u = linear(plan, x, { weight, adapter: update }, y.dtype);
    return scaleByMagnitude(plan, u, { magnitude, norms, bias }, y);
  }
  const m = x.rows;
  matmul(plan, { layout: "NT", a: x, b: weight, c: y, bias }, { m, n, k });
  if (adapter === undefined) {
    return plan.differentiable(y, (g) => linearBackward(plan, x, weights, g));
  }
  const { down, up, scale, dropout } = adapter;
  const { firstRow } = plan;
  const rank = down.shape[0]!;
  const h = plan.transient("lora", [m, rank], x.dtype);
  // As large as x, and so computed again in the backward pass.
  const dropped = (): Tensor =>
    dropout === undefined ? x : dropInto(plan, x, plan.transient("dropout", x.shape, x.dtype), dropout, { firstRow });
  matmul(plan, { layout: "NT", a: dropped(), b: down, c: h }, { m, n: rank, k });
  matmul(plan, { layout: "NT", a: h, b: up, c: y, accumulate: true }, { m, n, k: rank, alpha: scale });
  return plan.differentiable(y, (g) => {
    linearBackward(plan, x, weights, g);
    const t = plan.transient("d lora", [m, rank], x.dtype);
    matmul(plan, { layout: "NN", a: g, b: up, c: t }, { m, n: rank, k: n, alpha: scale });
    plan.contribute(up, (dUp) => {
      matmul(plan, { layout: "TN", a: g, b: h, c: dUp, accumulate: true }, { m: n, n: rank, k: m, alpha: scale });
    });
    plan.contribute(down, (dDown) => {
      matmul(plan, { layout: "TN", a: t, b: dropped(), c: dDown, accumulate: true }, { m: rank, n: k, k: m });
    });
    plan.contribute(x, (dx, accumulate) => {
      const shape = { m, n: k, k: rank };
      if (dropout === undefined) return matmul(plan, { layout: "NN", a: t, b: down, c: dx, accumulate }, shape);
      const d = plan.transient("d dropout", x.shape, x.dtype);
      matmul(plan, { layout: "NN", a: t, b: down, c: d }, shape);
      dropInto(plan, d, dx, dropout, { firstRow, accumulate });
    });
  });
}

function linearBackward(plan: Plan, x: Tensor, { weight, bias }: LinearWeights, g: Tensor): void {
  const [n, k] = weight.shape as [number, number];
  const m = x.rows;
  plan.contribute(weight, (dWeight) => {
    matmul(plan, { layout: "TN", a: g, b: x, c: dWeight, accumulate: true }, { m: n, n: k, k: m });
  });
  if (bias !== undefined) plan.contribute(bias, (dBias) => columnSums(plan, g, dBias));
  plan.contribute(x, (dx, accumulate) => {
    matmul(plan, { layout: "NN", a: g, b: weight, c: dx, accumulate }, { m, n: k, k: n });
  });
}
