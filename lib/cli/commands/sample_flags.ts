/** The flags of `cogtune sample`. */
import type { EngineChoice } from "../../gpu/engine.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import type { LoraChoice } from "../../models/lora/stack.ts";
import type { SampleFormat } from "../../sample/files.ts";
import type { MatmulPrecision } from "../../sample/load_transformer.ts";

/** Values of the flags as written; what is absent follows from the model. */
export interface SampleFlags {
  readonly model_path: string;
  readonly lora?: readonly LoraChoice[];
  readonly prompt?: readonly string[];
  readonly prompts?: string;
  readonly negative_prompt: string;
  readonly image?: readonly string[];
  readonly images?: string;
  readonly video?: readonly string[];
  readonly strength: number;
  readonly seed?: readonly number[];
  readonly sampler: "dpm" | "ddim";
  readonly num_inference_steps: number;
  readonly guidance_scale: number;
  readonly use_dynamic_cfg: boolean;
  readonly batched_guidance: boolean;
  readonly stream_weights: boolean;
  readonly resolution?: readonly [number, number, number];
  readonly fps?: number;
  readonly output_dir: string;
  readonly format?: readonly SampleFormat[];
  readonly dtype?: StorageType;
  readonly matmul_precision: MatmulPrecision;
  readonly whole_frames: boolean;
  readonly gpu_memory?: number;
  readonly engine: EngineChoice;
}

/** A number, or an error that says what it must be. */
function number(what: string, accepts: (value: number) => boolean): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (Number.isFinite(value) && accepts(value)) return value;
    throw new SyntaxError(`expected ${what}`);
  };
}

/** Splits `FILE:strength`; without a number behind the last colon all of it is the file. */
export function parseLoraChoice(text: string): LoraChoice {
  const [, path, strength] = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+))$/.exec(text) ?? [];
  return path === undefined ? { path: text, strength: 1 } : { path, strength: Number(strength) };
}

/** Splits `49x480x720` into frames, height and width, as `train_resolution` is written. */
export function parseResolution(text: string): [number, number, number] {
  const match = /^(\d+)x(\d+)x(\d+)$/i.exec(text);
  if (match === null) throw new SyntaxError("expected FRAMESxHEIGHTxWIDTH, as 49x480x720");
  return match.slice(1).map(Number) as [number, number, number];
}

const integer = (least: number) =>
  number(`an integer from ${least}`, (value) => Number.isInteger(value) && value >= least);
const text = String;

/** How the command-line framework reads the flags. */
export const sampleFlags = {
  model_path: {
    kind: "parsed",
    parse: text,
    brief: "Model folder in the diffusers layout, or its hub id (owner/name)",
    placeholder: "folder",
  },
  lora: {
    kind: "parsed",
    parse: parseLoraChoice,
    brief: "LoRA and a factor on its trained strength; repeat for several",
    variadic: true,
    optional: true,
    placeholder: "file[:strength]",
  },
  prompt: { kind: "parsed", parse: text, brief: "Prompt; repeat for several", variadic: true, optional: true },
  prompts: { kind: "parsed", parse: text, brief: "List of prompts, one per line", optional: true, placeholder: "file" },
  negative_prompt: { kind: "parsed", parse: text, brief: "What to guide away from", default: "" },
  image: {
    kind: "parsed",
    parse: text,
    brief: "First picture, for image to video; one for all prompts or one per prompt",
    variadic: true,
    optional: true,
    placeholder: "file",
  },
  images: {
    kind: "parsed",
    parse: text,
    brief: "List of pictures, one per prompt, relative to the list",
    optional: true,
    placeholder: "file",
  },
  video: {
    kind: "parsed",
    parse: text,
    brief: "Video to start from; one for all prompts or one per prompt",
    variadic: true,
    optional: true,
    placeholder: "file",
  },
  strength: {
    kind: "parsed",
    parse: number("a number above 0, at most 1", (value) => value > 0 && value <= 1),
    brief: "Share of the steps made when starting from a video",
    default: "0.8",
  },
  seed: {
    kind: "parsed",
    parse: integer(0),
    brief: "Seed; repeat for several videos per prompt. Default 42",
    variadic: true,
    optional: true,
  },
  sampler: { kind: "enum", values: ["dpm", "ddim"], brief: "Sampler", default: "dpm" },
  num_inference_steps: { kind: "parsed", parse: integer(1), brief: "Sampler steps", default: "50" },
  guidance_scale: {
    kind: "parsed",
    parse: number("a number", () => true),
    brief: "Classifier-free guidance; 1 is off",
    default: "6",
  },
  use_dynamic_cfg: { kind: "boolean", brief: "Raise the guidance along a cosine", default: false, withNegated: false },
  batched_guidance: {
    kind: "boolean",
    brief: "Run both halves of guidance at once: more memory, sometimes less time",
    default: false,
    withNegated: false,
  },
  stream_weights: {
    kind: "boolean",
    brief: "Keep the weights in host memory and copy them in every pass: for GPUs too small for the model",
    default: false,
    withNegated: false,
  },
  resolution: {
    kind: "parsed",
    parse: parseResolution,
    brief: "Frames, height and width. Default: what the model was made for",
    optional: true,
    placeholder: "FxHxW",
  },
  fps: { kind: "parsed", parse: integer(1), brief: "Frame rate. Default 8, or 16 for CogVideoX1.5", optional: true },
  output_dir: { kind: "parsed", parse: text, brief: "Folder for videos and their page", default: "samples" },
  format: {
    kind: "enum",
    values: ["mp4", "gif", "png"],
    brief: "File to write; repeat for several. Default mp4",
    variadic: true,
    optional: true,
  },
  dtype: {
    kind: "enum",
    values: ["f32", "f16", "bf16"],
    brief: "Storage of weights and activations. Default: that of the checkpoint",
    optional: true,
  },
  matmul_precision: {
    kind: "enum",
    values: ["mixed", "exact"],
    brief: "Round the operands of products to f16 and use matrix units, unless dtype is f32; or exactly in f32",
    default: "mixed",
  },
  whole_frames: {
    kind: "boolean",
    brief: "Decode frames whole instead of in tiles: more memory, no blending",
    default: false,
    withNegated: false,
  },
  gpu_memory: {
    kind: "parsed",
    parse: number("a positive number", (value) => value > 0),
    brief: "Most GPU memory to use, GiB",
    optional: true,
  },
  engine: {
    kind: "enum",
    values: ["auto", "deno", "dawn"],
    brief: "WebGPU implementation; auto takes dawn where it is installed and brings matrix units",
    default: "auto",
  },
} as const;

const SHOWN_FIRST = {
  "What to make": [
    ...["model_path", "lora", "prompt", "prompts", "negative_prompt"],
    ...["image", "images", "video", "strength", "seed"],
  ],
  "How": ["sampler", "num_inference_steps", "guidance_scale", "use_dynamic_cfg", "resolution", "fps"],
  "Where to": ["output_dir", "format"],
};

/** The flags by what they decide, as the help shows them. */
export const SAMPLE_GROUPS: Readonly<Record<string, readonly string[]>> = {
  ...SHOWN_FIRST,
  "Memory and engine": Object.keys(sampleFlags).filter((name) => !Object.values(SHOWN_FIRST).flat().includes(name)),
};
