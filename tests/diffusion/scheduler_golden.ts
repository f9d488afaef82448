/** Replays a sampler over the stored model outputs of a scheduler run of diffusers, in float64. */
import assert from "node:assert/strict";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { type SamplerStep, spaceTimesteps, type Spacing, type Timesteps } from "../../lib/diffusion/timesteps.ts";
import { relativeL2 } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { casesOf, type ReferenceCase, referencePath } from "../reference.ts";

const TABLES = "schedulers/tables.safetensors";

/** The stored noise schedules: SNR shift by name, and what all have in common. */
function storedSchedules(
  golden: Golden,
): { shifts: Readonly<Record<string, number>>; common: Record<string, unknown> } {
  const { snr_shift_scale, ...common } = golden.config;
  return { shifts: snr_shift_scale as Record<string, number>, common };
}

function alphasOf(common: Readonly<Record<string, unknown>>, snr_shift_scale: number): Float64Array {
  return alphasCumprod(parseScheduleConfig({ ...common, snr_shift_scale }, TABLES));
}

/** How many noise schedules are stored, and the largest difference from their cumulative alphas, which lie in [0, 1]. */
export function scheduleError(): { count: number; error: number } {
  using golden = new Golden(referencePath(TABLES));
  const { shifts, common } = storedSchedules(golden);
  const errors = Object.entries(shifts).flatMap(([name, shift]) => {
    const alphas = alphasOf(common, shift);
    return [...golden.f64(`${name}.alphas_cumprod`)].map((expected, t) => Math.abs(alphas[t]! - expected));
  });
  return { count: Object.keys(shifts).length, error: Math.max(...errors) };
}

/** The stored runs of a sampler. */
export function schedulerCases(kind: "ddim" | "dpm"): ReferenceCase[] {
  return casesOf("schedulers").filter(({ config }) => config.scheduler === kind);
}

/** Row `i` of a tensor stored as [steps, ...]. */
export function row<T extends Float32Array | Float64Array>(values: T, count: number, i: number): T {
  const size = values.length / count;
  return values.subarray(i * size, (i + 1) * size) as T;
}

/** Largest relative distance of latents and clean latents over all steps of a stored run. */
export function schedulerError(
  { file, config }: ReferenceCase,
  stepsOf: (alphas: Float64Array, timesteps: Timesteps) => SamplerStep[],
): number {
  using golden = new Golden(referencePath(file));
  using tables = new Golden(referencePath(TABLES));
  const { common } = storedSchedules(tables);
  const timesteps = spaceTimesteps(
    config.steps as number,
    config.spacing as Spacing,
    common.num_train_timesteps as number,
  );
  assert.deepEqual(timesteps.timesteps, golden.integers("timesteps"));
  const count = timesteps.timesteps.length;
  const steps = stepsOf(alphasOf(common, config.snr_shift_scale as number), timesteps);
  const latents = golden.f64("latents");
  const outputs = golden.f64("model_outputs");
  const cleans = golden.f64("pred_x0");
  const noise = golden.has("noise_used") ? golden.f64("noise_used") : undefined;
  let x = row(latents, count + 1, 0);
  let before = new Float64Array(x.length);
  let worst = 0;
  steps.forEach((k, i) => {
    const v = row(outputs, count, i);
    const n = noise === undefined ? undefined : row(noise, count, i);
    const clean = x.map((value, j) => k.signal * value - k.sigma * v[j]!);
    x = x.map((value, j) =>
      k.latents * value + k.clean * clean[j]! + k.previous * before[j]! + (n === undefined ? 0 : k.noise * n[j]!)
    );
    before = new Float64Array(clean);
    worst = Math.max(
      worst,
      relativeL2(x, row(latents, count + 1, i + 1)),
      relativeL2(clean, row(cleans, count, i)),
    );
  });
  return worst;
}
