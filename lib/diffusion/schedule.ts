/** The noise schedule of training and sampling, in float64 (spec: scaled-linear betas, SNR shift, zero terminal SNR). */
import { UserErrors } from "../errors.ts";

/** The fields of `scheduler/scheduler_config.json` that matter. */
export interface ScheduleConfig {
  readonly num_train_timesteps: number;
  readonly beta_start: number;
  readonly beta_end: number;
  /** 3 for CogVideoX-2b, 1 for the others. */
  readonly snr_shift_scale: number;
  readonly rescale_betas_zero_snr: boolean;
}

const DEFAULTS: ScheduleConfig = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  snr_shift_scale: 3,
  rescale_betas_zero_snr: false,
};

/** Settings this project computes with; every released model has them. */
const FIXED: Readonly<Record<string, unknown>> = { beta_schedule: "scaled_linear", prediction_type: "v_prediction" };

/** The schedule of a released model by preset name. */
export function releasedSchedule(model: string): ScheduleConfig {
  return { ...DEFAULTS, snr_shift_scale: model === "2b" ? 3 : 1, rescale_betas_zero_snr: true };
}

/**
 * Reads the parsed JSON of a scheduler config.
 *
 * @throws {UserErrors} when it asks for another kind of schedule or prediction.
 */
export function parseScheduleConfig(json: Readonly<Record<string, unknown>>, file: string): ScheduleConfig {
  const problems: string[] = [];
  for (const [key, expected] of Object.entries(FIXED)) {
    if (json[key] !== expected) problems.push(`${key} is ${JSON.stringify(json[key])}: expected "${expected}"`);
  }
  const config: Record<string, unknown> = { ...DEFAULTS };
  for (const [key, fallback] of Object.entries(DEFAULTS)) {
    const value = json[key];
    if (value === undefined) continue;
    if (typeof value !== typeof fallback) {
      problems.push(`${key} is ${JSON.stringify(value)}: expected a ${typeof fallback}`);
    } else config[key] = value;
  }
  if (problems.length > 0) throw new UserErrors(`Cannot use ${file}`, problems);
  return config as unknown as ScheduleConfig;
}

/** Cumulative products a_t of 1 - beta, after SNR shift and rescaling: a_0 unchanged, a_last exactly 0 when rescaled. */
export function alphasCumprod(config: ScheduleConfig): Float64Array {
  const { num_train_timesteps: n, beta_start, beta_end, snr_shift_scale: shift } = config;
  const alphas = new Float64Array(n);
  const [from, to] = [Math.sqrt(beta_start), Math.sqrt(beta_end)];
  let product = 1;
  for (let i = 0; i < n; i++) {
    product *= 1 - (from + i / (n - 1) * (to - from)) ** 2;
    alphas[i] = product / (shift + (1 - shift) * product);
  }
  if (config.rescale_betas_zero_snr) {
    const [first, last] = [Math.sqrt(alphas[0]!), Math.sqrt(alphas[n - 1]!)];
    for (let i = 0; i < n; i++) alphas[i] = ((Math.sqrt(alphas[i]!) - last) * (first / (first - last))) ** 2;
  }
  return alphas;
}
