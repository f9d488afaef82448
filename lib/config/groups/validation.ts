/** Videos sampled while training runs. */
import { z } from "zod";

/** Validation. */
export interface ValidationConfig {
  /** Sample videos every `validation_steps` steps and at the end. Default `false`. */
  readonly do_validation: boolean;
  /** Optimizer steps between validations, a multiple of `checkpointing_steps`. */
  readonly validation_steps?: number | undefined;
  /** Folder of the validation lists. */
  readonly validation_dir?: string | undefined;
  /** List of prompts, one per line, below `validation_dir`. */
  readonly validation_prompts?: string | undefined;
  /** List of condition images for image to video, below `validation_dir`. */
  readonly validation_images?: string | undefined;
  /** Frames per second written into the sampled videos. Default `15`. */
  readonly gen_fps: number;
  /** Sampler of validation videos. Default `dpm`. */
  readonly sampler: "dpm" | "ddim";
  /** Sampler steps per video. Default `50`. */
  readonly num_inference_steps: number;
  /** Strength of classifier-free guidance; 1 is off. Default `6`. */
  readonly guidance_scale: number;
  /** Raise the guidance along a cosine while sampling. Default `false`. */
  readonly use_dynamic_cfg: boolean;
  /** Folder of clips, laid out as `data_root`, whose loss at fixed noise and timesteps is measured and never trained on. */
  readonly heldout_root?: string | undefined;
  /** Optimizer steps between two measurements on `heldout_root`. Default `100`. */
  readonly heldout_steps: number;
}

export const validationFields = {
  do_validation: z.boolean().default(false),
  validation_steps: z.int().min(1).optional(),
  validation_dir: z.string().min(1).optional(),
  validation_prompts: z.string().min(1).optional(),
  validation_images: z.string().min(1).optional(),
  gen_fps: z.int().min(1).default(15),
  sampler: z.enum(["dpm", "ddim"]).default("dpm"),
  num_inference_steps: z.int().min(1).max(1000).default(50),
  guidance_scale: z.number().min(1).default(6),
  use_dynamic_cfg: z.boolean().default(false),
  heldout_root: z.string().min(1).optional(),
  heldout_steps: z.int().min(1).default(100),
};
