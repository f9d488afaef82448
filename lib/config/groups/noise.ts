/** At which timesteps, with which noise and with which weight the model learns. */
import { z } from "zod";

/** Noise and loss. */
export const noise = z.strictObject({
  timestep_sampling: z.enum(["uniform", "logit_normal"]).default("uniform").describe(
    "How timesteps are drawn: all equally often, or as the logistic function of a normal number, most often in the middle.",
  ),
  timestep_logit_mean: z.number().default(0).describe(
    "Mean of the normal number of `logit_normal`; below 0 clean timesteps are drawn more often, above 0 noisy ones.",
  ),
  timestep_logit_std: z.number().positive().default(1).describe(
    "Standard deviation of the normal number of `logit_normal`.",
  ),
  timestep_min: z.int().min(0).max(999).default(0).describe(
    "First timestep that is drawn; early ones are nearly clean and teach detail.",
  ),
  timestep_max: z.int().min(0).max(999).optional().describe(
    "Last timestep that is drawn; late ones are nearly noise and teach composition and motion. The last of the schedule " +
      "when unset.",
  ),
  snr_gamma: z.number().positive().optional().describe(
    "Weigh the loss by min(SNR, gamma) / (SNR + 1), which evens out clean and noisy timesteps; 5 is usual. Off when unset.",
  ),
  noise_offset: z.number().min(0).default(0).describe(
    "Standard deviation of a number per channel that is added to all its noise, for darker and brighter videos; 0.05 to " +
      "0.1 is usual.",
  ),
}).meta({ title: "Noise and loss" });
