/** What is known of a model by its name alone, without any file of it. */
import { type ModelVariant, RELEASED } from "../transformer/config.ts";
import { RELEASED_VAE } from "../vae/config.ts";
import type { ModelConfigs } from "./model_folder.ts";

/** The configs of a released model, or of a tiny one of the same kind. */
export function namedModel(variant: ModelVariant): ModelConfigs {
  return {
    transformer: RELEASED[variant],
    vae: RELEASED_VAE,
    scheduler: {
      beta_schedule: "scaled_linear",
      prediction_type: "v_prediction",
      beta_start: 0.00085,
      beta_end: 0.012,
      num_train_timesteps: 1000,
      snr_shift_scale: variant.endsWith("2b") ? 3 : 1,
      rescale_betas_zero_snr: true,
      timestep_spacing: "trailing",
    },
  };
}
