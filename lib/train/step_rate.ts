/** The learning rate of a step, as a config asks for it. */
import type { TrainConfig } from "../config/config.ts";
import { learningRateMultiplier } from "../optim/learning_rate.ts";
import { rangeRate } from "../optim/rate_range.ts";

/** The rate of the step behind `applied` updates, in a run of `totalSteps`. */
export function stepRate(config: TrainConfig, applied: number, totalSteps: number): number {
  if (config.lr_range_test) return rangeRate(applied, totalSteps, config.lr_range_min, config.lr_range_max);
  return config.learning_rate * learningRateMultiplier(applied, {
    schedule: config.lr_scheduler,
    warmupSteps: config.lr_warmup_steps,
    totalSteps,
    cycles: config.lr_num_cycles,
    power: config.lr_power,
    initialRate: config.learning_rate,
  });
}
