/** The base model a LoRA belongs to: adapters of another family load without a word and only make noise. */
import { createHash } from "node:crypto";
import { innerDim, isImageToVideo, isVersion15, RELEASED, type TransformerConfig } from "../transformer/config.ts";

/** What identifies a base model in the metadata of a LoRA file. */
export interface BaseModel {
  /** Name of the released model with the same structure, as "1.5-5b-i2v". */
  readonly family: string;
  /** Width of the residual stream. */
  readonly width: number;
  /** Number of transformer blocks. */
  readonly layers: number;
  /** First 16 hexadecimal digits of the SHA-256 of every config value that shapes or wires the model. */
  readonly digest: string;
}

/** Config values that decide whether an adapter of one model means the same in another. */
const IDENTITY = [
  "num_attention_heads",
  "attention_head_dim",
  "in_channels",
  "out_channels",
  "num_layers",
  "patch_size",
  "patch_size_t",
  "patch_bias",
  "time_embed_dim",
  "ofs_embed_dim",
  "text_embed_dim",
  "use_rotary_positional_embeddings",
  "use_learned_positional_embeddings",
] as const satisfies readonly (keyof TransformerConfig)[];

/** The identity of the model that `config` describes. */
export function baseModel(config: TransformerConfig): BaseModel {
  const line = isVersion15(config) ? "1.5-5b" : config.use_rotary_positional_embeddings ? "5b" : "2b";
  const family = isImageToVideo(config) ? `${line}-i2v` : line;
  const identity = JSON.stringify(IDENTITY.map((key) => [key, config[key]]));
  const digest = createHash("sha256").update(identity).digest("hex").slice(0, 16);
  return { family, width: innerDim(config), layers: config.num_layers, digest };
}

/**
 * The model as people call it, with its size when that is not the released one: "CogVideoX-5B-I2V (width 128, 2
 * blocks)".
 */
export function baseName({ family, width, layers }: BaseModel): string {
  const [line, ...rest] = family.startsWith("1.5-") ? ["CogVideoX1.5", family.slice(4)] : ["CogVideoX", family];
  const name = [line, ...rest].join("-").toUpperCase().replace("COGVIDEOX", "CogVideoX");
  const released = Object.entries(RELEASED).some(([variant, config]) => {
    return variant === family && innerDim(config) === width && config.num_layers === layers;
  });
  return released ? name : `${name} (width ${width}, ${layers} blocks)`;
}

/** The released models of a width, for files that do not say which model they belong to. */
export function familiesOfWidth(width: number): string[] {
  const families = Object.entries(RELEASED).map(([name, config]) => ({ name, base: baseModel(config) }));
  // Small variants for tests belong to a family without being it.
  return families.filter(({ name, base }) => name === base.family && base.width === width)
    .map(({ base }) => baseName(base));
}

/** Reads what {@linkcode baseModel} gave from parsed JSON; undefined when it is something else. */
export function parseBase(value: unknown): BaseModel | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { family, width, layers, digest } = value as Record<string, unknown>;
  if (typeof family !== "string" || !/^[\w.-]{1,40}$/.test(family)) return undefined;
  if (typeof digest !== "string" || !/^[0-9a-f]{16}$/.test(digest)) return undefined;
  if (!Number.isSafeInteger(width) || !Number.isSafeInteger(layers)) return undefined;
  return { family, width: width as number, layers: layers as number, digest };
}
