/** The schedules of the released models. */
import type { ScheduleConfig } from "../../lib/diffusion/schedule.ts";

/** The schedule of a released model by preset name. */
export function releasedSchedule(model: string): ScheduleConfig {
  return {
    num_train_timesteps: 1000,
    beta_start: 0.00085,
    beta_end: 0.012,
    snr_shift_scale: model === "2b" ? 3 : 1,
    rescale_betas_zero_snr: true,
    timestep_spacing: "trailing",
  };
}
