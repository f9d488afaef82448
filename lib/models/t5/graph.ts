/**
 * The T5 v1.1 encoder, forward only. One block is recorded once and run for every layer with other weights in the same
 * tensors, so that the encoder is never on the device as a whole.
 *
 *   h += softmax(q k^T + bias) v Wo^T          q, k, v = rms(h) Wq^T, rms(h) Wk^T, rms(h) Wv^T; no 1 / sqrt(d)
 *   h += (gelu(x W0^T) * (x W1^T)) W2^T        x = rms(h)
 */
import { attentionForward } from "../../../kernels/attention/attention.ts";
import { biasStride, paddedSequence } from "../../../kernels/attention/shape.ts";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { rmsNorm } from "../../../kernels/norm/layer.ts";
import { gatedGelu } from "../../../kernels/rows/flat.ts";
import { BINDING_BYTES } from "../../ops/video/frames.ts";
import { linear } from "../../ops/linear.ts";
import { matmul } from "../../ops/matmul.ts";
import { Plan } from "../../plan/plan.ts";
import { DISCRETE_LIMITS, type RecordingLimits } from "../../plan/limits.ts";
import { finish, type Recording } from "../../plan/recording.ts";
import { Tensor } from "../../plan/tensor.ts";
import { recordWork } from "../../plan/work.ts";
import { blockShapes, FINAL_NORM, type T5Config } from "./config.ts";

/** What the plans of an encoder depend on. */
export interface T5RecordOptions {
  /** Prompts encoded together, and tokens of each. */
  readonly prompts: number;
  readonly tokens: number;
  /** Storage of the matrices; activations, norms and biases are f32. */
  readonly dtype: DType;
  readonly target?: Target;
  readonly limits?: RecordingLimits;
}

/** The plans of an encoder and the tensors the host writes and reads. */
export interface T5Recording {
  /** Runs once per layer. */
  readonly block: Recording;
  /** Runs behind the last layer. */
  readonly final: Recording;
  /** One layer's tensors by their names without `encoder.block.<i>.`. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly finalNorm: Tensor;
  /** f32 [heads, distances]. */
  readonly bias: Tensor;
  /** f32 [prompts, tokens, d_model]: embeddings before, residual stream after a block. */
  readonly hidden: Tensor;
  /** f32 [prompts, tokens, d_model]. */
  readonly output: Tensor;
}

/** One pass of 9.5 GB of weights serves this many prompts; more would only need more memory. */
const PROMPTS = 16;

/**
 * How many prompts of `tokens` tokens are encoded together: at most `wanted`, and no more than a binding holds on any
 * device.
 */
export function promptsAtOnce({ d_ff }: T5Config, tokens: number, wanted: number = PROMPTS): number {
  return Math.max(1, Math.min(wanted, Math.floor(BINDING_BYTES / (4 * tokens * d_ff))));
}

/** Records the plans; needs neither device nor weights. */
export function recordT5(config: T5Config, options: T5RecordOptions): T5Recording {
  const { prompts, tokens, dtype, target = plainTarget(32), limits = DISCRETE_LIMITS } = options;
  const { d_model, num_heads } = config;
  const resident = (name: string, shape: readonly number[], type: DType) =>
    new Tensor(name, shape, type, { resident: true });
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of blockShapes(config)) {
    weights.set(name, resident(name, shape, shape.length > 1 ? dtype : "f32"));
  }
  const finalNorm = resident(FINAL_NORM, [d_model], "f32");
  const bias = resident("relative position bias", [num_heads, biasStride(tokens)], "f32");
  const hidden = resident("hidden", [prompts, tokens, d_model], "f32");
  const output = resident("embeddings", [prompts, tokens, d_model], "f32");
  const blockPlan = new Plan({ target });
  recordBlock(blockPlan, config, weights, hidden, bias);
  const finalPlan = new Plan({ target });
  recordNorm(finalPlan, config, hidden, finalNorm, output);
  return {
    block: finish(blockPlan, limits),
    final: finish(finalPlan, limits),
    weights,
    finalNorm,
    bias,
    hidden,
    output,
  };
}

function recordNorm(plan: Plan, { layer_norm_epsilon }: T5Config, x: Tensor, gamma: Tensor, y: Tensor): void {
  const shape = { rows: x.rows, width: x.width, eps: layer_norm_epsilon };
  recordWork(plan, rmsNorm(plan.target, { x: x.dtype, y: y.dtype, param: gamma.dtype }, shape), { x, gamma, y });
}

function recordBlock(
  plan: Plan,
  config: T5Config,
  weights: ReadonlyMap<string, Tensor>,
  hidden: Tensor,
  bias: Tensor,
): void {
  const { d_model, d_ff, d_kv, num_heads } = config;
  const inner = num_heads * d_kv;
  const rows = hidden.rows;
  const weight = (name: string) => weights.get(`${name}.weight`)!;
  const norm = (name: string) => {
    const x = plan.transient("norm", hidden.shape, "f32");
    recordNorm(plan, config, hidden, weight(name), x);
    return x;
  };
  const addTo = (a: Tensor, name: string, k: number) =>
    matmul(plan, { layout: "NT", a, b: weight(name), c: hidden, accumulate: true }, { m: rows, n: d_model, k });

  const x = norm("layer.0.layer_norm");
  const [q, k, v] = ["q", "k", "v"].map((name) =>
    linear(plan, x, { weight: weight(`layer.0.SelfAttention.${name}`) })
  ) as [Tensor, Tensor, Tensor];
  addTo(recordAttention(plan, config, [q, k, v], bias), "layer.0.SelfAttention.o", inner);

  const y = norm("layer.1.layer_norm");
  const gate = linear(plan, y, { weight: weight("layer.1.DenseReluDense.wi_0") });
  const up = linear(plan, y, { weight: weight("layer.1.DenseReluDense.wi_1") });
  const product = plan.transient("gated gelu", gate.shape, "f32");
  const elements = product.size;
  plan.launch(gatedGelu({ x: "f32", y: "f32" }, { elements }), [gate, up, product], [product]);
  addTo(product, "layer.1.DenseReluDense.wo", d_ff);
}

/** softmax(q k^T + bias) v per head. */
function recordAttention(
  plan: Plan,
  { num_heads, d_kv }: T5Config,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  bias: Tensor,
): Tensor {
  const [batch, sequence] = q.shape as [number, number];
  const o = plan.transient("attention", q.shape, "f32");
  const lse = plan.transient("lse", [batch, num_heads, paddedSequence(sequence)], "f32");
  const spec = { dtype: "f32", headDim: d_kv, bias: true } as const;
  const work = attentionForward(plan.target, spec, { batch, heads: num_heads, sequence, scale: 1 });
  recordWork(plan, work, { query: q, key: k, value: v, o, lse, bias });
  return o;
}
