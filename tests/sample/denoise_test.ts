/** Latents after every step of every stored pipeline run, all five variants, DDIM and DPM, with and without dynamic guidance. */
import assert from "node:assert/strict";
import { ddimSteps } from "../../lib/diffusion/ddim.ts";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/model_folder.ts";
import { type BaseModel, loadBaseModel } from "../../lib/sample/base_model.ts";
import { type DenoiseInputs, Denoiser, recordDenoise } from "../../lib/sample/denoise.ts";
import { type GuidanceMode, guidanceScales } from "../../lib/sample/guidance.ts";
import { imageCondition, LATENT_PIXELS, pixelVolume } from "../../lib/sample/latents.ts";
import { openVae } from "../../lib/models/vae.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { referenceTest } from "../reference.ts";
import { caseConfig, entry, type RunConfig, storedPixels, VARIANTS } from "./golden_pipeline.ts";

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
async function replay(
  model: BaseModel,
  folder: string,
  variant: string,
  kind: string,
  mode: GuidanceMode,
): Promise<{ latents: Float32Array[]; expected: Float32Array[]; scales: readonly number[] }> {
  const file = `sampling/${variant}.${kind}.safetensors`;
  using golden = new Golden(`${folder}/${file}`);
  using shared = new Golden(`${folder}/sampling/${variant}.ddim.safetensors`);
  const run = caseConfig<RunConfig>(folder, file);
  const { transformer, scheduler } = openModelFolder(`${folder}/pipelines/${run.pipeline}`);
  const [, frames, , height, width] = golden.shape("initial_latents") as [number, number, number, number, number];
  const stochastic = kind.startsWith("dpm");
  const shape = { frames, height, width, textRows: shared.shape("prompt_embeds")[1]! };
  const { session } = model;
  const recording = recordDenoise(
    session.device.target,
    session.limits,
    { model: transformer, shape, activation: "f32", guidance: mode, stochastic },
    model.parameters,
  );
  using denoiser = new Denoiser(session, recording, model.learned);
  const alphas = alphasCumprod(parseScheduleConfig(scheduler, run.pipeline));
  const timesteps = spaceTimesteps(run.steps);
  assert.deepEqual(timesteps.timesteps, golden.integers("timesteps"));
  const steps = (stochastic ? dpmSteps : ddimSteps)(alphas, timesteps);
  const scales = guidanceScales(timesteps.timesteps, {
    guidance: run.guidance_scale,
    dynamic: run.use_dynamic_cfg,
  });
  golden.f64("guidance").forEach((scale, i) => assert.ok(Math.abs(scales[i]! - scale) < 1e-9, `guidance ${i}`));
  const embeddings = shared.f32("prompt_embeds");
  const start: DenoiseInputs = {
    latents: golden.f32("initial_latents"),
    negative: entry(embeddings, 2, 0),
    prompt: entry(embeddings, 2, 1),
    condition: golden.has("image")
      ? await condition(session, `${folder}/pipelines/${run.pipeline}`, `${folder}/${file}`)
      : undefined,
    noise: stochastic ? (i) => entry(golden.f32("noise_used"), run.steps, i) : undefined,
  };
  const latents: Float32Array[] = [];
  for await (const _ of denoiser.run(steps, start, { scales })) latents.push(await denoiser.read());
  const expected = steps.map((_, i) => entry(golden.f32("latents"), run.steps, i));
  return { latents, expected, scales };
}

for (const variant of VARIANTS) {
  referenceTest(`denoising ${variant} equals the stored runs after every step`, async (folder) => {
    const { device } = await testDevice();
    using session = new Session(device);
    const path = `${folder}/pipelines/tiny-${variant}`;
    using model = await loadBaseModel(session, path, openModelFolder(path).transformer);
    const modelBytes = session.allocatedBytes;
    for (const kind of ["ddim", "dpm", "ddim.dynamic", "dpm.dynamic"]) {
      const { latents, expected } = await replay(model, folder, variant, kind, "sequential");
      expected.forEach((values, i) => {
        const error = relativeL2(latents[i]!, values);
        assert.ok(error <= 1e-5, `${kind} step ${i}: ${error}`);
      });
    }
    assert.equal(session.allocatedBytes, modelBytes, "a disposed denoiser leaves nothing but the weights");
  });
}

referenceTest("one run of batch 2 and two of batch 1 agree, and the default needs less memory", async (folder) => {
  const { device } = await testDevice();
  const peaks: number[] = [];
  const results: Float32Array[] = [];
  for (const mode of ["sequential", "batched"] as const) {
    using session = new Session(device);
    const path = `${folder}/pipelines/tiny-1.5-5b-i2v`;
    using model = await loadBaseModel(session, path, openModelFolder(path).transformer);
    const { latents, expected } = await replay(model, folder, "1.5-5b-i2v", "dpm", mode);
    assert.ok(relativeL2(latents.at(-1)!, expected.at(-1)!) <= 1e-5);
    results.push(latents.at(-1)!);
    peaks.push(session.peakBytes);
  }
  assert.ok(relativeL2(results[0]!, results[1]!) <= 1e-5);
  assert.ok(peaks[0]! < peaks[1]!, `${peaks}`);
});

Deno.test("dynamic guidance has the scales of the specification", () => {
  const timesteps = spaceTimesteps(50).timesteps;
  const scales = guidanceScales(timesteps, { guidance: 6, dynamic: true });
  const table = [[999, 2.29149], [979, 2.5435], [959, 6.97435], [499, 1.52127], [59, 1.0000005], [39, 1.000004], [
    19,
    1.1234,
  ]];
  for (const [t, scale] of table) assert.ok(Math.abs(scales[timesteps.indexOf(t!)]! - scale!) < 1e-5, `${t}`);
  assert.deepEqual(guidanceScales([999, 19], { guidance: 3, dynamic: false }), [3, 3]);
  assert.equal(guidanceScales([1], { guidance: 6, dynamic: true })[0], 1);
});
