/** Adapters, and what is special to image to video. */
import { z } from "zod";

/** LoRA. */
export const lora = z.strictObject({
  rank: z.int().min(1).max(4096).default(128).describe("Rank of the adapters."),
  lora_alpha: z.number().positive().optional().describe(
    "Adapters are scaled by `lora_alpha` / `rank`. Equal to `rank` when unset.",
  ),
  target_modules: z.array(z.string().min(1)).min(1).default(["to_q", "to_k", "to_v", "to_out.0"]).describe(
    "Linear layers that get an adapter: ends of module names, `*` matches any text.",
  ),
  rank_pattern: z.array(z.string().regex(/^[^=\s]+=[1-9][0-9]{0,3}$/)).default([]).describe(
    "Ranks of single layers as LAYER=RANK, with names as in `target_modules`; the first that names a layer counts.",
  ),
  alpha_pattern: z.array(z.string().regex(/^[^=\s]+=[0-9]*\.?[0-9]+$/)).default([]).describe(
    "Alphas of single layers as LAYER=ALPHA. Where `lora_alpha` is unset, a layer's alpha is its rank.",
  ),
  lora_dropout: z.number().min(0).lt(1).default(0).describe(
    "Probability with which an element of an adapter's input is dropped while training, against learning clips by heart.",
  ),
  use_rslora: z.boolean().default(false).describe(
    "Scale adapters by `lora_alpha` / sqrt(`rank`), so that high ranks learn as fast as low ones.",
  ),
  use_dora: z.boolean().default(false).describe(
    "Train how long the rows of the adapted weights are apart from where they point (DoRA); slower, and closer to training " +
      "all weights at low ranks.",
  ),
  init_lora: z.string().min(1).optional().describe(
    "LoRA file or folder to start from, of any format that can be read; ranks may be lower than `rank`.",
  ),
}).meta({ title: "LoRA" });

/** Image to video. */
export const image = z.strictObject({
  image_scale: z.enum(["original", "pipeline"]).default("original").describe(
    "Factor of the condition latent: the VAE's scaling factor as the original trainer, or what the sampling " +
      "pipeline of the model uses (differs for 1.5).",
  ),
  image_noise: z.enum(["per_sample", "per_batch"]).default("per_sample").describe(
    "Whether the strength of the noise put on the condition image is drawn for every clip or once per batch.",
  ),
  condition_dropout: z.number().min(0).max(1).default(0).describe(
    "Probability with which the condition of a clip is replaced by zeros.",
  ),
}).meta({ title: "Image to video" });
