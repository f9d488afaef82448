/** Sampling with a model that predicts zero: every latent is a known combination of the noise that was drawn. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { RandomStream } from "../../lib/data/random/random.ts";
import { ddimSteps } from "../../lib/diffusion/ddim.ts";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { denoise, denoiseConfig, openDenoiser } from "../../lib/sample/generate.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { defaultSettings } from "../../lib/sample/settings.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { silentModel } from "../silent_model.ts";

const SEED = 11;

Deno.test("every step adds noise of its own, and guidance between equal predictions changes nothing", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const model = openModelFolder(silentModel(folder));
    const { device } = await testDevice();
    using session = new Session(device);
    using loaded = await loadTransformer(session, model);
    const { max_text_seq_length: tokens, text_embed_dim: width } = model.transformer;
    const prompt = new Float32Array(tokens * width);
    const schedule = parseScheduleConfig(model.scheduler, "scheduler");
    const alphas = alphasCumprod(schedule);
    const usual = { ...defaultSettings(model.transformer), frames: 9, height: 32, width: 48, steps: 5 };
    for (const [sampler, guidance] of [["dpm", 1], ["dpm", 6], ["ddim", 1]] as const) {
      const settings = { ...usual, sampler, guidance };
      using denoiser = openDenoiser(session, denoiseConfig(model, settings, "f32"), loaded.parameters);
      const request = { prompt: "nothing", seed: SEED };
      const prepared = { request, prompt, negative: guidance > 1 ? prompt : undefined, condition: undefined };
      const running = denoise(denoiser, model, { ...prepared, start: undefined }, settings);
      let next = await running.next();
      while (!next.done) next = await running.next();

      const size = 3 * 16 * 4 * 6;
      const drawn = (purpose: "initialLatents" | "samplerNoise", step: number) =>
        new RandomStream({ seed: SEED, purpose, step, sample: 0 }).fillNormals(new Float32Array(size));
      let x = Float64Array.from(drawn("initialLatents", 0)), before = new Float64Array(size);
      const spaced = spaceTimesteps(5, schedule.timestep_spacing, alphas.length);
      for (const [i, step] of (sampler === "dpm" ? dpmSteps : ddimSteps)(alphas, spaced).entries()) {
        const noise = drawn("samplerNoise", i);
        const clean = x.map((value) => step.signal * value);
        x = x.map((value, at) =>
          step.latents * value + step.clean * clean[at]! + step.previous * before[at]! + step.noise * noise[at]!
        );
        before = clean;
      }
      assert.ok(relativeL2(next.value, x) < 1e-5, `${sampler} at ${guidance}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
