/** Repeats stored pipeline runs of diffusers with the stored noise. */
import assert from "node:assert/strict";
import { ddimSteps } from "../../lib/diffusion/ddim.ts";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import type { LoadedTransformer } from "../../lib/sample/load_transformer.ts";
import { type DenoiseInputs, Denoiser, recordDenoise } from "../../lib/sample/denoise.ts";
import { type GuidanceMode, guidanceScales } from "../../lib/sample/guidance.ts";
import { imageCondition, pixelVolume } from "../../lib/sample/latents.ts";
import { LATENT_PIXELS } from "../../lib/models/transformer/config.ts";
import { relativeL2 } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { type ReferenceCase, referencePath } from "../reference.ts";
import { entry, type RunConfig, storedPixels, type StoredRuns } from "./golden_pipeline.ts";

/** Latents after every step, as computed here and as stored. */
export interface Replay {
  readonly latents: readonly Float32Array[];
  readonly expected: readonly Float32Array[];
}

/** The condition of a stored image-to-video run from its picture and the noise of its posterior. */
async function condition(session: Session, path: string, file: string): Promise<Float32Array<ArrayBuffer>> {
  using golden = new Golden(file);
  using vae = openVae(session, path);
  const [, frames, , h, w] = golden.shape("initial_latents") as [number, number, number, number, number];
  const pixels = pixelVolume(storedPixels(file, "image"), { height: h * LATENT_PIXELS, width: w * LATENT_PIXELS });
  const values = imageCondition(await vae.encode(pixels), golden.f32("posterior_noise"), vae.config, frames);
  if (golden.has("image_condition")) {
    assert.ok(relativeL2(pixels.data, golden.f32("image_preprocessed")) <= 1e-6);
    assert.ok(relativeL2(values, golden.f32("image_condition")) <= 1e-5);
  }
  return values;
}

/** Latents after every step of a stored run, computed here. */
export async function replay(
  model: LoadedTransformer,
  { shared: sharedCase, model: path }: StoredRuns,
  stored: ReferenceCase,
  { mode = "sequential", embeddings }: {
    readonly mode?: GuidanceMode;
    /** Negative and positive prompt; the stored ones when absent. */
    readonly embeddings?: readonly [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>];
  } = {},
): Promise<Replay> {
  const file = referencePath(stored.file);
  using golden = new Golden(file);
  using shared = new Golden(referencePath(sharedCase.file));
  const run = stored.config as unknown as RunConfig;
  const { transformer, scheduler } = openModelFolder(path);
  const [, frames, , height, width] = golden.shape("initial_latents") as [number, number, number, number, number];
  const stochastic = run.scheduler === "dpm";
  const shape = { frames, height, width, textRows: shared.shape("prompt_embeds")[1]! };
  const { session } = model;
  const recording = recordDenoise(
    session.device.target,
    session.limits,
    { model: transformer, shape, activation: "f32", guidance: mode, stochastic },
    model.parameters,
  );
  using denoiser = new Denoiser(session, recording, model.learned);
  const alphas = alphasCumprod(parseScheduleConfig(scheduler, path));
  const timesteps = spaceTimesteps(run.steps, "trailing", 1000);
  assert.deepEqual(timesteps.timesteps, golden.integers("timesteps"));
  const steps = (stochastic ? dpmSteps : ddimSteps)(alphas, timesteps);
  const scales = guidanceScales(timesteps.timesteps, {
    guidance: run.guidance_scale,
    dynamic: run.use_dynamic_cfg,
  });
  golden.f64("guidance").forEach((scale, i) => assert.ok(Math.abs(scales[i]! - scale) < 1e-9, `guidance ${i}`));
  const prompts = shared.f32("prompt_embeds");
  const [negative, prompt] = embeddings ?? [entry(prompts, 2, 0), entry(prompts, 2, 1)];
  const start: DenoiseInputs = {
    latents: golden.f32("initial_latents"),
    negative,
    prompt,
    condition: golden.has("image") ? await condition(session, path, file) : undefined,
    noise: stochastic ? (i) => entry(golden.f32("noise_used"), run.steps, i) : undefined,
  };
  const latents: Float32Array[] = [];
  for await (const _ of denoiser.run(steps, start, { scales })) latents.push(await denoiser.read());
  const expected = steps.map((_, i) => entry(golden.f32("latents"), run.steps, i));
  return { latents, expected };
}
