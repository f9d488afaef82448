/** Shape of a CogVideoX transformer, read from `transformer/config.json` or known by the name of a released model. */
import { UserErrors } from "../../errors.ts";
import { LIMITS_HINT, numberProblem } from "../tensors/config_values.ts";

/** The fields of `CogVideoXTransformer3DModel` that change the computation; absent keys take the class defaults. */
export interface TransformerConfig {
  readonly num_attention_heads: number;
  readonly attention_head_dim: number;
  readonly in_channels: number;
  readonly out_channels: number;
  readonly num_layers: number;
  readonly patch_size: number;
  /** 2 for CogVideoX1.5, null for 1.0. */
  readonly patch_size_t: number | null;
  readonly patch_bias: boolean;
  readonly time_embed_dim: number;
  readonly ofs_embed_dim: number | null;
  readonly text_embed_dim: number;
  readonly max_text_seq_length: number;
  /** Latent height, width and pixel frames the learned positions were made for. */
  readonly sample_height: number;
  readonly sample_width: number;
  readonly sample_frames: number;
  readonly temporal_compression_ratio: number;
  readonly spatial_interpolation_scale: number;
  readonly temporal_interpolation_scale: number;
  readonly use_rotary_positional_embeddings: boolean;
  readonly use_learned_positional_embeddings: boolean;
  readonly norm_eps: number;
}

/** What diffusers calls the transformer in its config.json. */
export const TRANSFORMER_CLASS = "CogVideoXTransformer3DModel";

const DEFAULTS: TransformerConfig = {
  num_attention_heads: 30,
  attention_head_dim: 64,
  in_channels: 16,
  out_channels: 16,
  num_layers: 30,
  patch_size: 2,
  patch_size_t: null,
  patch_bias: true,
  time_embed_dim: 512,
  ofs_embed_dim: null,
  text_embed_dim: 4096,
  max_text_seq_length: 226,
  sample_height: 60,
  sample_width: 90,
  sample_frames: 49,
  temporal_compression_ratio: 4,
  spatial_interpolation_scale: 1.875,
  temporal_interpolation_scale: 1,
  use_rotary_positional_embeddings: false,
  use_learned_positional_embeddings: false,
  norm_eps: 1e-5,
};

/** Values that every released model shares and that the kernels rely on. */
const FIXED: Readonly<Record<string, unknown>> = {
  activation_fn: "gelu-approximate",
  timestep_activation_fn: "silu",
  attention_bias: true,
  flip_sin_to_cos: true,
  freq_shift: 0,
  norm_elementwise_affine: true,
  patch_size: 2,
  attention_head_dim: 64,
  dropout: 0,
};

const five: Partial<TransformerConfig> = {
  num_attention_heads: 48,
  num_layers: 42,
  use_rotary_positional_embeddings: true,
};
const onePointFive: Partial<TransformerConfig> = {
  ...five,
  patch_size_t: 2,
  patch_bias: false,
  sample_height: 96,
  sample_width: 170,
  sample_frames: 81,
};

const released = {
  "2b": DEFAULTS,
  "5b": { ...DEFAULTS, ...five },
  "5b-i2v": { ...DEFAULTS, ...five, in_channels: 32, use_learned_positional_embeddings: true },
  "1.5-5b": { ...DEFAULTS, ...onePointFive },
  "1.5-5b-i2v": { ...DEFAULTS, ...onePointFive, in_channels: 32, ofs_embed_dim: 512 },
} satisfies Readonly<Record<string, TransformerConfig>>;

/** What makes a released model tiny: every kind of layer is left, a step takes seconds on a CPU. */
const tiny: Partial<TransformerConfig> = {
  num_attention_heads: 2,
  num_layers: 2,
  time_embed_dim: 64,
  text_embed_dim: 32,
  sample_frames: 9,
};
const tinyWide: Partial<TransformerConfig> = { ...tiny, sample_height: 12, sample_width: 16 };

const variants = {
  ...released,
  "tiny-2b": { ...released["2b"], ...tiny, sample_height: 8, sample_width: 12 },
  "tiny-5b": { ...released["5b"], ...tiny, sample_height: 8, sample_width: 12 },
  "tiny-5b-i2v": { ...released["5b-i2v"], ...tiny, sample_height: 6, sample_width: 10 },
  "tiny-1.5-5b": { ...released["1.5-5b"], ...tinyWide },
  "tiny-1.5-5b-i2v": { ...released["1.5-5b-i2v"], ...tinyWide, ofs_embed_dim: 64 },
} satisfies Readonly<Record<string, TransformerConfig>>;

/** Name of a shape that is known without a checkpoint. */
export type ModelVariant = keyof typeof variants;

/** The models by the names presets use: the released ones, and their tiny shapes. */
export const RELEASED: Readonly<Record<ModelVariant, TransformerConfig>> = variants;

/** Whether the model continues an image: its input has channels for one beside those of the latents. */
export function isImageToVideo({ in_channels, out_channels }: TransformerConfig): boolean {
  return in_channels > out_channels;
}

/** Whether the model is of CogVideoX1.5, which packs two latent frames into a token. */
export function isVersion15({ patch_size_t }: TransformerConfig): boolean {
  return patch_size_t !== null;
}

/**
 * Reads the parsed JSON of a config file.
 *
 * @throws {UserErrors} listing every value this project cannot compute with.
 */
export function parseTransformerConfig(json: Readonly<Record<string, unknown>>, file: string): TransformerConfig {
  const problems: string[] = [];
  const className = json._class_name;
  if (className !== undefined && className !== TRANSFORMER_CLASS) {
    problems.push(`_class_name is "${className}": expected "${TRANSFORMER_CLASS}"`);
  }
  for (const [key, expected] of Object.entries(FIXED)) {
    if (key in json && json[key] !== expected) {
      problems.push(`${key} is ${JSON.stringify(json[key])}: cogtune computes ${expected} only`);
    }
  }
  const config: Record<string, unknown> = { ...DEFAULTS };
  for (const [key, fallback] of Object.entries(DEFAULTS)) {
    const value = json[key];
    if (value === undefined) continue;
    const nullable = key === "patch_size_t" || key === "ofs_embed_dim";
    const kind = nullable && value === null ? "null" : typeof fallback === "boolean" ? "boolean" : "number";
    if (kind !== "null" && typeof value !== kind) {
      problems.push(`${key} is ${JSON.stringify(value)}: expected a ${kind}`);
      continue;
    }
    const problem = kind === "number" ? numberProblem(key, value as number) : undefined;
    if (problem === undefined) config[key] = value;
    else problems.push(problem);
  }
  const { patch_size_t: q, ofs_embed_dim: ofs, time_embed_dim: te } = config as unknown as TransformerConfig;
  if (q !== null && q !== 2) problems.push(`patch_size_t is ${q}: cogtune computes null and 2 only`);
  for (const key of ["text_embed_dim", "time_embed_dim"]) {
    if (config[key] as number % 4 !== 0) {
      problems.push(`${key} is ${config[key]}: cogtune computes multiples of 4 only`);
    }
  }
  if (ofs !== null && ofs !== te) problems.push(`ofs_embed_dim is ${ofs}: it must equal time_embed_dim, ${te}`);
  if (config.use_learned_positional_embeddings === true && config.use_rotary_positional_embeddings === false) {
    problems.push("use_learned_positional_embeddings needs use_rotary_positional_embeddings");
  }
  if (problems.length > 0) {
    throw new UserErrors(`Cannot use ${file}`, problems, LIMITS_HINT);
  }
  return config as unknown as TransformerConfig;
}

/** Pixels of a latent pixel in each direction: the autoencoder of every released model halves three times. */
export const LATENT_PIXELS = 8;

/** Latents of a clip. */
export interface LatentSize {
  /** Latent frames that the clip encodes to, and that are decoded. */
  readonly frames: number;
  /** Frames in front of them that fill whole patches in time (CogVideoX1.5). */
  readonly padding: number;
  readonly height: number;
  readonly width: number;
}

/**
 * Latents of a clip of `frames` x `height` x `width` pixels: a latent frame for the first, one for each group behind
 * it.
 */
export function latentSize(
  config: TransformerConfig,
  [frames, height, width]: readonly [frames: number, height: number, width: number],
): LatentSize {
  const latents = Math.floor((frames - 1) / config.temporal_compression_ratio) + 1;
  return {
    frames: latents,
    padding: latentPadding(config, latents),
    height: height / LATENT_PIXELS,
    width: width / LATENT_PIXELS,
  };
}

/** Frames in front of `latents` latent frames that fill whole patches in time. */
export function latentPadding({ patch_size_t }: TransformerConfig, latents: number): number {
  const patch = patch_size_t ?? 1;
  return (patch - latents % patch) % patch;
}

/** Width of the residual stream. */
export function innerDim(config: TransformerConfig): number {
  return config.num_attention_heads * config.attention_head_dim;
}

/** Values of one input patch: channels x (frames) x rows x columns. */
export function patchWidth(config: TransformerConfig, channels: number): number {
  return channels * config.patch_size ** 2 * (config.patch_size_t ?? 1);
}

/** Checkpoint name and shape of every parameter, in model order: 28 tensors a block, everything with a bias. */
export function parameterShapes(config: TransformerConfig): Map<string, readonly number[]> {
  const d = innerDim(config);
  const { time_embed_dim: te, text_embed_dim: x, ofs_embed_dim: ofs, patch_size: p, attention_head_dim: hd } = config;
  const shapes = new Map<string, readonly number[]>();
  const affine = (name: string, width: number) => {
    shapes.set(`${name}.weight`, [width]);
    shapes.set(`${name}.bias`, [width]);
  };
  const dense = (name: string, out: number, inWidth: number) => {
    shapes.set(`${name}.weight`, [out, inWidth]);
    shapes.set(`${name}.bias`, [out]);
  };
  if (!isVersion15(config)) {
    shapes.set("patch_embed.proj.weight", [d, config.in_channels, p, p]);
    if (config.patch_bias) shapes.set("patch_embed.proj.bias", [d]);
  } else {
    dense("patch_embed.proj", d, patchWidth(config, config.in_channels));
  }
  dense("patch_embed.text_proj", d, x);
  dense("time_embedding.linear_1", te, d);
  dense("time_embedding.linear_2", te, te);
  if (ofs !== null) {
    dense("ofs_embedding.linear_1", ofs, ofs);
    dense("ofs_embedding.linear_2", ofs, ofs);
  }
  for (let i = 0; i < config.num_layers; i++) {
    const block = `transformer_blocks.${i}`;
    dense(`${block}.norm1.linear`, 6 * d, te);
    affine(`${block}.norm1.norm`, d);
    affine(`${block}.attn1.norm_q`, hd);
    affine(`${block}.attn1.norm_k`, hd);
    for (const name of ["to_q", "to_k", "to_v", "to_out.0"]) dense(`${block}.attn1.${name}`, d, d);
    dense(`${block}.norm2.linear`, 6 * d, te);
    affine(`${block}.norm2.norm`, d);
    dense(`${block}.ff.net.0.proj`, 4 * d, d);
    dense(`${block}.ff.net.2`, d, 4 * d);
  }
  affine("norm_final", d);
  dense("norm_out.linear", 2 * d, te);
  affine("norm_out.norm", d);
  dense("proj_out", patchWidth(config, config.out_channels), d);
  return shapes;
}

/**
 * Name and shape of the stored table of learned positions, a buffer that is never trained; undefined when there is
 * none.
 */
export function positionTableShape(config: TransformerConfig): { name: string; shape: readonly number[] } | undefined {
  if (!config.use_learned_positional_embeddings) return undefined;
  const { sample_frames, sample_height, sample_width, patch_size, patch_size_t } = config;
  const { frames, padding } = latentSize(config, [sample_frames, 0, 0]);
  const patches = (sample_height / patch_size) * (sample_width / patch_size) * (frames + padding) / (patch_size_t ?? 1);
  return {
    name: "patch_embed.pos_embedding",
    shape: [1, config.max_text_seq_length + patches, innerDim(config)],
  };
}
