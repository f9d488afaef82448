/** Learning-rate schedules: pure functions from the number of optimizer steps done to a multiplier of the peak rate. */

/** Names of the schedules. */
export const learningRateSchedules = [
  "constant",
  "constant_with_warmup",
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
] as const;

/** A schedule's name. */
export type LearningRateSchedule = typeof learningRateSchedules[number];

/** What a schedule depends on. */
export interface ScheduleOptions {
  readonly schedule: LearningRateSchedule;
  /** Optimizer steps in which the rate rises from 0. */
  readonly warmupSteps: number;
  /** Optimizer steps of the whole run, warm-up included. */
  readonly totalSteps: number;
  /** Restarts of `cosine_with_restarts`. */
  readonly cycles: number;
  /** Exponent of `polynomial`. */
  readonly power: number;
  /**
   * Rate that `polynomial` starts from, which sets the multiplier of its end, 1e-7 over this. The peak learning rate
   * ends at 1e-7; the original trainer has 1e-3 here, whatever the peak, and so ends at 1e-4 of the peak.
   */
  readonly initialRate: number;
}

// The end of `polynomial` in the library whose schedules these are.
const polynomialEnd = 1e-7;

/**
 * Multiplier of the peak learning rate for the optimizer step that follows `step` finished ones, so the first step of a
 * warm-up has rate 0.
 */
export function learningRateMultiplier(step: number, options: ScheduleOptions): number {
  const { schedule, warmupSteps, totalSteps } = options;
  if (schedule === "constant") return 1;
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  const length = Math.max(1, totalSteps - warmupSteps);
  const progress = (step - warmupSteps) / length;
  switch (schedule) {
    case "constant_with_warmup":
      return 1;
    case "linear":
      return Math.max(0, (totalSteps - step) / length);
    case "cosine":
      return halfCosine(progress);
    case "cosine_with_restarts":
      return progress >= 1 ? 0 : halfCosine((options.cycles * progress) % 1);
    case "polynomial": {
      const { initialRate, power } = options;
      if (step > totalSteps) return polynomialEnd / initialRate;
      return ((initialRate - polynomialEnd) * (1 - progress) ** power + polynomialEnd) / initialRate;
    }
  }
}

/** From 1 at 0 to 0 at 1. */
function halfCosine(x: number): number {
  return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * x)));
}
