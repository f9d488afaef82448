/** Which model is trained, and how. */
import { z } from "zod";

/** Names of the shapes this program knows without reading a checkpoint. */
export type ModelVariant =
  | "2b"
  | "5b"
  | "5b-i2v"
  | "1.5-5b"
  | "1.5-5b-i2v"
  | "tiny-2b"
  | "tiny-5b"
  | "tiny-5b-i2v"
  | "tiny-1.5-5b"
  | "tiny-1.5-5b-i2v";

/** Trainer names of the original command line. */
export type ModelName = "cogvideox-t2v" | "cogvideox-i2v" | "cogvideox1.5-t2v" | "cogvideox1.5-i2v";

/** Model. */
export interface ModelConfig {
  /**
   * Shape of the model: a released one, or the same architecture at 2 layers (`tiny-...`). Read from the name of
   * `model_path` when unset.
   */
  readonly model?: ModelVariant | undefined;
  /** Diffusers folder of the pretrained pipeline, or its hub id (owner/name or owner/name@revision). */
  readonly model_path?: string | undefined;
  /** Trainer name of the original command line. Follows from `model` when unset. */
  readonly model_name: ModelName;
  /** Text to video or image to video. Follows from `model_name` when unset. */
  readonly model_type: "t2v" | "i2v";
  /** LoRA adapters on frozen weights, or all weights (sft). Default `lora`. */
  readonly training_type: "lora" | "sft";
  /**
   * Start from random weights of the shape `model` (or of the config.json files in `model_path`) instead of reading a
   * checkpoint. Default `false`.
   */
  readonly random_weights: boolean;
}

export const modelVariants = [
  "2b",
  "5b",
  "5b-i2v",
  "1.5-5b",
  "1.5-5b-i2v",
  "tiny-2b",
  "tiny-5b",
  "tiny-5b-i2v",
  "tiny-1.5-5b",
  "tiny-1.5-5b-i2v",
] as const satisfies readonly ModelVariant[];

export const modelFields = {
  model: z.enum(modelVariants).optional(),
  model_path: z.string().min(1).optional(),
  model_name: z.enum(["cogvideox-t2v", "cogvideox-i2v", "cogvideox1.5-t2v", "cogvideox1.5-i2v"]).optional(),
  model_type: z.enum(["t2v", "i2v"]).optional(),
  training_type: z.enum(["lora", "sft"]).default("lora"),
  random_weights: z.boolean().default(false),
};
