/** Which model is trained, and how. */
import { z } from "zod";
import { type ModelVariant, RELEASED } from "../../models/transformer/config.ts";

const modelNames = ["cogvideox-t2v", "cogvideox-i2v", "cogvideox1.5-t2v", "cogvideox1.5-i2v"] as const;

/** Trainer names of the original command line. */
export type ModelName = typeof modelNames[number];

/** Names of the shapes that need no checkpoint to be known. */
export const modelVariants = Object.keys(RELEASED) as [ModelVariant, ...ModelVariant[]];

/** Model. */
export const model = z.strictObject({
  model: z.enum(modelVariants).optional().describe(
    "Shape of the model: a released one, or the same architecture at 2 layers (`tiny-...`). Read from the name " +
      "of `model_path` when unset.",
  ),
  model_path: z.string().min(1).optional().describe(
    "Diffusers folder of the pretrained pipeline, or its hub id (owner/name or owner/name@revision).",
  ),
  model_name: z.enum(modelNames).optional().describe(
    "Trainer name of the original command line. Follows from `model` when unset.",
  ),
  model_type: z.enum(["t2v", "i2v"]).optional().describe(
    "Text to video or image to video. Follows from `model_name` when unset.",
  ),
  training_type: z.enum(["lora", "sft"]).default("lora").describe(
    "LoRA adapters on frozen weights, or all weights (sft).",
  ),
  random_weights: z.boolean().default(false).describe(
    "Start from random weights of the shape of `model_path`'s config.json instead of reading a checkpoint. Without " +
      "`model_path` of the shape `model`, or the smallest of `model_name`, on random latents and prompts: for measuring.",
  ),
}).meta({ title: "Model" });
