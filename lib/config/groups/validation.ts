/** Videos sampled while training runs. */
import { z } from "zod";

/** Validation. */
export const validation = z.strictObject({
  do_validation: z.boolean().default(false).describe("Sample videos every `validation_steps` steps and at the end."),
  validation_steps: z.int().min(1).optional().describe(
    "Optimizer steps between validations, a multiple of `checkpointing_steps`.",
  ),
  validation_dir: z.string().min(1).optional().describe("Folder of the validation lists."),
  validation_prompts: z.string().min(1).optional().describe("List of prompts, one per line, below `validation_dir`."),
  validation_images: z.string().min(1).optional().describe(
    "List of condition images for image to video, below `validation_dir`.",
  ),
  gen_fps: z.int().min(1).default(15).describe("Frames per second written into the sampled videos."),
  sampler: z.enum(["dpm", "ddim"]).default("dpm").describe("Sampler of validation videos."),
  num_inference_steps: z.int().min(1).max(1000).default(50).describe("Sampler steps per video."),
  guidance_scale: z.number().min(1).default(6).describe("Strength of classifier-free guidance; 1 is off."),
  use_dynamic_cfg: z.boolean().default(false).describe("Raise the guidance along a cosine while sampling."),
  heldout_root: z.string().min(1).optional().describe(
    "Folder of clips, laid out as `data_root`, whose loss at fixed noise and timesteps is measured and never " +
      "trained on.",
  ),
  heldout_steps: z.int().min(1).default(100).describe("Optimizer steps between two measurements on `heldout_root`."),
  keep_best: z.boolean().default(false).describe(
    "Keep the model with the lowest loss on `heldout_root` in the folder `best` of `output_dir`.",
  ),
  early_stop: z.int().min(1).optional().describe(
    "End the run after this many measurements on `heldout_root` in a row without a lower loss. Off when unset.",
  ),
}).meta({ title: "Validation" });
