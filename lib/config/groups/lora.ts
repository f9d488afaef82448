/** Adapters, and what is special to image to video. */
import { z } from "zod";

/** LoRA. */
export interface LoraConfig {
  /** Rank of the adapters. Default `128`. */
  readonly rank: number;
  /** Adapters are scaled by `lora_alpha` / `rank`. Equal to `rank` when unset. */
  readonly lora_alpha: number;
  /**
   * Linear layers that get an adapter: ends of module names, `*` matches any text. Default `[to_q, to_k, to_v,
   * to_out.0]`.
   */
  readonly target_modules: readonly string[];
}

/** Image to video. */
export interface ImageConfig {
  /**
   * Factor of the condition latent: the VAE's scaling factor as the original trainer, or what the sampling pipeline of
   * the model uses (differs for 1.5). Default `original`.
   */
  readonly image_scale: "original" | "pipeline";
  /**
   * Whether the strength of the noise put on the condition image is drawn for every clip or once per batch. Default
   * `per_sample`.
   */
  readonly image_noise: "per_sample" | "per_batch";
  /** Probability with which the condition of a clip is replaced by zeros. Default `0`. */
  readonly condition_dropout: number;
}

export const loraFields = {
  rank: z.int().min(1).max(4096).default(128),
  lora_alpha: z.number().positive().optional(),
  target_modules: z.array(z.string().min(1)).min(1).default(["to_q", "to_k", "to_v", "to_out.0"]),
};

export const imageFields = {
  image_scale: z.enum(["original", "pipeline"]).default("original"),
  image_noise: z.enum(["per_sample", "per_batch"]).default("per_sample"),
  condition_dropout: z.number().min(0).max(1).default(0),
};
