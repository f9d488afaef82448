/** Replays a sampler over the stored model outputs of a scheduler run of diffusers, in float64. */
import assert from "node:assert/strict";
import { alphasCumprod } from "../../lib/diffusion/schedule.ts";
import { releasedSchedule } from "./released.ts";
import { type SamplerStep, spaceTimesteps, type Spacing, type Timesteps } from "../../lib/diffusion/timesteps.ts";
import { relativeL2 } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";

/** One stored run: KIND-NAME-SPACING-STEPS. */
export interface SchedulerCase {
  readonly name: string;
  readonly spacing: Spacing;
  readonly steps: number;
}

/** The runs stored for every sampler. */
export const SCHEDULER_CASES: readonly SchedulerCase[] = ["2b", "5b"].flatMap((name) =>
  (["trailing", "leading"] as const).flatMap((spacing) => [4, 7].map((steps) => ({ name, spacing, steps })))
);

/** Largest difference from the stored cumulative alphas of both noise schedules; all lie in [0, 1]. */
export function scheduleError(file: string): number {
  using golden = new Golden(file);
  return Math.max(...["2b", "5b"].flatMap((model) => {
    const alphas = alphasCumprod(releasedSchedule(model));
    return [...golden.f64(`${model}.alphas_cumprod`)].map((expected, t) => Math.abs(alphas[t]! - expected));
  }));
}

/** Row `i` of a tensor stored as [steps, ...]. */
export function row<T extends Float32Array | Float64Array>(values: T, count: number, i: number): T {
  const size = values.length / count;
  return values.subarray(i * size, (i + 1) * size) as T;
}

/** Largest relative distance of latents and clean latents over all steps of a stored run. */
export function schedulerError(
  folder: string,
  kind: string,
  { name, spacing, steps: count }: SchedulerCase,
  stepsOf: (alphas: Float64Array, timesteps: Timesteps) => SamplerStep[],
): number {
  using golden = new Golden(`${folder}/schedulers/${kind}-${name}-${spacing}-${count}.safetensors`);
  const timesteps = spaceTimesteps(count, spacing, 1000);
  assert.deepEqual(timesteps.timesteps, golden.integers("timesteps"));
  const steps = stepsOf(alphasCumprod(releasedSchedule(name)), timesteps);
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
