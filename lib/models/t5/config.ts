/** Shape of the T5 v1.1 text encoder, read from `text_encoder/config.json`, and its relative positions. */
import { UserErrors } from "../../errors.ts";
import { LIMITS_HINT, numberProblem } from "../tensors/config_values.ts";

/** The fields that change the computation; absent keys take the values of T5 v1.1 XXL. */
export interface T5Config {
  readonly d_model: number;
  readonly d_ff: number;
  /** Columns of one head. */
  readonly d_kv: number;
  readonly num_heads: number;
  readonly num_layers: number;
  readonly vocab_size: number;
  readonly layer_norm_epsilon: number;
}

/** The text encoder of every released CogVideoX. */
export const T5_XXL: T5Config = {
  d_model: 4096,
  d_ff: 10240,
  d_kv: 64,
  num_heads: 64,
  num_layers: 24,
  vocab_size: 32128,
  layer_norm_epsilon: 1e-6,
};

/** Values the computation relies on; `gated-gelu` means the tanh form in T5 v1.1. */
const FIXED: Readonly<Record<string, unknown>> = {
  model_type: "t5",
  feed_forward_proj: "gated-gelu",
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
};

/**
 * Reads the parsed JSON of a config file.
 *
 * @throws {UserErrors} listing every value this project cannot compute with.
 */
export function parseT5Config(json: Readonly<Record<string, unknown>>, file: string): T5Config {
  const problems: string[] = [];
  for (const [key, expected] of Object.entries(FIXED)) {
    if (key in json && json[key] !== expected) {
      problems.push(`${key} is ${JSON.stringify(json[key])}: cogtune computes ${expected} only`);
    }
  }
  const config: Record<string, number> = { ...T5_XXL };
  for (const key of Object.keys(T5_XXL)) {
    const value = json[key];
    if (value === undefined) continue;
    const problem = typeof value === "number"
      ? numberProblem(key, value)
      : `${key} is ${JSON.stringify(value)}: expected a number`;
    if (problem === undefined) config[key] = value as number;
    else problems.push(problem);
  }
  for (const key of ["d_model", "d_ff", "d_kv"] as const) {
    if (config[key]! % 4 !== 0) problems.push(`${key} is ${config[key]}: cogtune computes multiples of 4 only`);
  }
  if (problems.length > 0) {
    throw new UserErrors(`Cannot use ${file}`, problems, LIMITS_HINT);
  }
  return config as unknown as T5Config;
}

/** Names and shapes of one block's tensors, without the `encoder.block.<i>.` in front. */
export function blockShapes({ d_model, d_ff, d_kv, num_heads }: T5Config): Map<string, readonly number[]> {
  const inner = num_heads * d_kv;
  return new Map<string, readonly number[]>([
    ["layer.0.SelfAttention.q.weight", [inner, d_model]],
    ["layer.0.SelfAttention.k.weight", [inner, d_model]],
    ["layer.0.SelfAttention.v.weight", [inner, d_model]],
    ["layer.0.SelfAttention.o.weight", [d_model, inner]],
    ["layer.0.layer_norm.weight", [d_model]],
    ["layer.1.DenseReluDense.wi_0.weight", [d_ff, d_model]],
    ["layer.1.DenseReluDense.wi_1.weight", [d_ff, d_model]],
    ["layer.1.DenseReluDense.wo.weight", [d_model, d_ff]],
    ["layer.1.layer_norm.weight", [d_model]],
  ]);
}

/** The table of relative position biases [buckets, heads]; block 0 holds it for all. */
export const BIAS_TABLE = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

/** The norm behind the last block. */
export const FINAL_NORM = "encoder.final_layer_norm.weight";

/** The two names of the token embedding, which is stored under one or both. */
export const EMBEDDINGS: readonly string[] = ["shared.weight", "encoder.embed_tokens.weight"];

/** Name and shape of every tensor but the embedding. */
export function t5ParameterShapes(config: T5Config): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>([[BIAS_TABLE, [32, config.num_heads]]]);
  for (let i = 0; i < config.num_layers; i++) {
    for (const [name, shape] of blockShapes(config)) shapes.set(`encoder.block.${i}.${name}`, shape);
  }
  return shapes.set(FINAL_NORM, [config.d_model]);
}

/**
 * Smallest distances of buckets 8 to 15; the logarithm that defines them is rounded, so the library's results are
 * listed.
 */
const BUCKET_STARTS = [8, 12, 16, 23, 32, 46, 64, 91];

/** Bucket of a key `offset` positions behind (positive) or before the query; 32 buckets, half for each direction. */
export function relativeBucket(offset: number): number {
  const distance = Math.abs(offset);
  const base = offset > 0 ? 16 : 0;
  return base + (distance < 8 ? distance : 7 + BUCKET_STARTS.filter((start) => start <= distance).length);
}

/** Biases by distance, [heads, stride] with entry key - query + tokens - 1, from the table [32, heads]. */
export function relativeBias(
  table: Float32Array,
  heads: number,
  tokens: number,
  stride: number,
): Float32Array<ArrayBuffer> {
  const bias = new Float32Array(heads * stride);
  for (let i = 0; i < 2 * tokens - 1; i++) {
    const bucket = relativeBucket(i - tokens + 1);
    for (let head = 0; head < heads; head++) bias[head * stride + i] = table[bucket * heads + head]!;
  }
  return bias;
}
