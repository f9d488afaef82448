/**
 * Layer norm of every token, with the adaptive scale and shift of the conditioning (adaLN, arXiv:2212.09748):
 * y = (xhat gamma + beta)(1 + scale) + shift. Text and video rows of a joint sequence take different chunks.
 *
 * Backward, gw = g (1 + scale) gamma:  dx = rs (gw - mean gw - xhat mean(gw xhat)); gamma, beta, shift and scale take
 * column sums of g and g xhat. Saved: x and the row statistics.
 */
import { layerNorm as forward, layerNormBackward, type LayerNormShape } from "../../kernels/norm/layer.ts";
import { layerNormColumns, layerNormParameters, layerNormSums } from "../../kernels/norm/layer_parameters.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

/** Affine weights of a norm. */
export interface NormWeights {
  readonly gamma: Tensor;
  readonly beta: Tensor;
}

/** The conditioning of a norm: chunk indices (in units of the width) inside each row of f32 [batch, chunks * width]. */
export interface Modulation {
  readonly tensor: Tensor;
  readonly shiftText: number;
  readonly scaleText: number;
  readonly shiftVideo: number;
  readonly scaleVideo: number;
}

/** Rows of one batch element: text first, then video. */
export interface Segments {
  readonly sequence: number;
  readonly textRows: number;
}

/** Records y = layer norm of x [batch, sequence, width]. */
export function layerNorm(
  plan: Plan,
  x: Tensor,
  { gamma, beta }: NormWeights,
  segments: Segments,
  eps: number,
  modulation?: Modulation,
): Tensor {
  const width = x.width;
  const shape: LayerNormShape = {
    rows: x.rows,
    ...segments,
    width,
    eps,
    modulationStride: modulation?.tensor.width ?? 0,
    shiftText: (modulation?.shiftText ?? 0) * width,
    scaleText: (modulation?.scaleText ?? 0) * width,
    shiftVideo: (modulation?.shiftVideo ?? 0) * width,
    scaleVideo: (modulation?.scaleVideo ?? 0) * width,
  };
  const modulated = modulation !== undefined;
  const operands = { x, gamma, ...(modulated ? { modulation: modulation.tensor } : {}) };
  const y = plan.transient("norm", x.shape, x.dtype, [...Object.values(operands), beta]);
  const stats = plan.transient("norm stats", [x.rows, 4], "f32");
  const param = gamma.dtype;
  const spec = { x: x.dtype, y: y.dtype, param, modulated };
  recordWork(plan, forward(plan.target, spec, shape), { ...operands, beta, y, stats });
  return plan.differentiable(y, (g) => {
    plan.contribute(x, (dx, accumulate) => {
      const spec = { x: x.dtype, g: g.dtype, dx: dx.dtype, param, modulated, accumulate };
      recordWork(plan, layerNormBackward(plan.target, spec, shape), { ...operands, stats, g, dx });
    });
    if (gamma.needsGrad || modulation?.tensor.needsGrad) {
      parameterGradients(plan, { x, stats, g, gamma, beta }, shape, modulation?.tensor);
    }
  });
}

function parameterGradients(
  plan: Plan,
  { x, stats, g, gamma, beta }: { x: Tensor; stats: Tensor; g: Tensor } & NormWeights,
  shape: LayerNormShape,
  modulation: Tensor | undefined,
): void {
  const sums = plan.transient("column sums", [layerNormSums(shape)], "f32");
  recordWork(plan, layerNormColumns(plan.target, { x: x.dtype, g: g.dtype }, shape), { x, stats, g, out: sums });
  // A frozen norm still passes gradients to its modulation; what it would collect for itself goes to scratch memory.
  const dGamma = gamma.gradient ?? plan.transient("scratch", gamma.shape, "f32");
  const dBeta = beta.gradient ?? plan.transient("scratch", beta.shape, "f32");
  const spec = { param: gamma.dtype, modulated: modulation !== undefined };
  const launch = layerNormParameters(spec, shape);
  if (modulation === undefined) return plan.launch(launch, [sums, dGamma, dBeta], [dGamma, dBeta]);
  const record = (d: Tensor) =>
    plan.launch(launch, [sums, dGamma, dBeta, gamma, beta, modulation, d], [dGamma, dBeta, d]);
  // The gates of the same modulation are written by the gated residual: every chunk has exactly one writer.
  if (modulation.needsGrad) plan.contribute(modulation, record);
  else record(plan.transient("scratch", modulation.shape, "f32"));
}
