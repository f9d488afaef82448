/**
 * The noise schedule of training and sampling, in float64: scaled-linear betas, the SNR shift of CogVideoX, and
 * rescaling to zero terminal SNR (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed",
 * algorithm 1).
 */
import { UserErrors } from "../errors.ts";
import { type Spacing, SPACINGS } from "./timesteps.ts";

/** The fields of `scheduler/scheduler_config.json` that matter. */
export interface ScheduleConfig {
  readonly num_train_timesteps: number;
  readonly beta_start: number;
  readonly beta_end: number;
  /** 3 for CogVideoX-2b, 1 for the others. */
  readonly snr_shift_scale: number;
  readonly rescale_betas_zero_snr: boolean;
  readonly timestep_spacing: Spacing;
}

/** What diffusers takes for a missing field. */
const DEFAULTS: ScheduleConfig = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  snr_shift_scale: 3,
  rescale_betas_zero_snr: false,
  timestep_spacing: "leading",
};

/** Settings this project computes with; every released model has them. */
const FIXED: Readonly<Record<string, unknown>> = { beta_schedule: "scaled_linear", prediction_type: "v_prediction" };

/** Most timesteps of a schedule, a hundred times those of the released models: its table must not fill the memory. */
const MOST_TIMESTEPS = 100_000;

/** What a value must be besides of its default's type. */
const RULES: readonly (readonly [keyof ScheduleConfig, string, (value: unknown, config: ScheduleConfig) => boolean])[] =
  [
    [
      "num_train_timesteps",
      `a whole number from 2 to ${MOST_TIMESTEPS}`,
      (n) => Number.isInteger(n) && (n as number) >= 2 && (n as number) <= MOST_TIMESTEPS,
    ],
    ["beta_start", "a number above 0 and below 1", (beta) => (beta as number) > 0 && (beta as number) < 1],
    [
      "beta_end",
      "a number from beta_start to below 1",
      (beta, { beta_start }) => (beta as number) >= beta_start && (beta as number) < 1,
    ],
    ["snr_shift_scale", "a number above 0", (shift) => (shift as number) > 0 && Number.isFinite(shift)],
    ["timestep_spacing", SPACINGS.map((name) => `"${name}"`).join(", "), (name) => SPACINGS.includes(name as Spacing)],
  ];

/**
 * Reads the parsed JSON of a scheduler config.
 *
 * @throws {UserErrors} when it asks for another kind of schedule or prediction, or for one that has no table of finite
 * numbers.
 */
export function parseScheduleConfig(json: Readonly<Record<string, unknown>>, file: string): ScheduleConfig {
  const problems: string[] = [];
  const refuse = (key: string, expected: string) =>
    problems.push(`${key} is ${JSON.stringify(json[key])}: expected ${expected}`);
  for (const [key, expected] of Object.entries(FIXED)) if (json[key] !== expected) refuse(key, `"${expected}"`);
  const config: Record<string, unknown> = { ...DEFAULTS };
  const wrongType = new Set<string>();
  for (const [key, fallback] of Object.entries(DEFAULTS)) {
    const value = json[key];
    if (value === undefined) continue;
    if (typeof value === typeof fallback) config[key] = value;
    else {
      wrongType.add(key);
      refuse(key, `a ${typeof fallback}`);
    }
  }
  const parsed = config as unknown as ScheduleConfig;
  for (const [key, expected, holds] of RULES) {
    if (!wrongType.has(key) && !holds(parsed[key], parsed)) refuse(key, expected);
  }
  if (problems.length === 0) {
    const alphas = alphasCumprod(parsed);
    const wrong = alphas.findIndex((alpha) => !(alpha >= 0 && alpha <= 1));
    if (wrong >= 0) problems.push(`its alpha at timestep ${wrong} is ${alphas[wrong]}: expected a number from 0 to 1`);
  }
  if (problems.length > 0) {
    throw new UserErrors(`Cannot use ${file}`, problems, "take the file of the model that the weights are from");
  }
  return parsed;
}

/**
 * Cumulative products a_t of 1 - beta, after SNR shift and rescaling: a_0 unchanged, a_last exactly 0 when rescaled.
 */
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
