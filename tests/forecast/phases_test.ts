/** Encoding and sampling of the tiny pipelines: planned bytes are the allocated ones, phase by phase. */
import assert from "node:assert/strict";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { parseT5Config } from "../../lib/models/t5/config.ts";
import { openTextEncoder } from "../../lib/models/t5/encoder.ts";
import { positionTableShape } from "../../lib/models/transformer/config.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { emptyVolume } from "../../lib/models/vae/volume.ts";
import { readJsonObject } from "../../lib/io/json_file.ts";
import { Denoiser, recordDenoise } from "../../lib/sample/denoise.ts";
import { type RecordedPhase, recordForecast } from "../../lib/forecast/forecast.ts";
import { describeRun } from "../../lib/step/run_description.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { pipelineFor } from "../reference.ts";
import { tinyConfig } from "../step/tiny_run.ts";
import { LimitedSession } from "../limited_session.ts";

const VALIDATION = {
  do_validation: true,
  validation_dir: "v",
  validation_prompts: "p.txt",
  validation_images: "i.txt",
  validation_steps: 200,
  num_inference_steps: 1,
};

/** Runs `body` in a session of its own and compares its peak with the phase's, whose residents of training are left out. */
async function samePeak(
  phase: RecordedPhase,
  beside: number,
  body: (session: Session) => Promise<void>,
): Promise<void> {
  const { device } = await testDevice();
  using session = new LimitedSession(device);
  await body(session);
  assert.equal(session.peakBytes, phase.gpuBytes - beside, phase.name);
}

for (const variant of ["2b", "5b-i2v"] as const) {
  Deno.test(`planned bytes of encoding and sampling ${variant} are the allocated ones`, async () => {
    const path = pipelineFor(variant);
    const pipeline = openModelFolder(path);
    const t5File = `${path}/text_encoder/config.json`;
    const t5 = parseT5Config(readJsonObject(t5File), t5File);
    const { device } = await testDevice();
    using limits = new Session(device);
    const { use_learned_positional_embeddings: fixed, sample_height, sample_width } = pipeline.transformer;
    const size = fixed ? { train_resolution: `9x${8 * sample_height}x${8 * sample_width}` } : {};
    const config = tinyConfig({ model: `tiny-${variant}`, mixed_precision: "bf16", ...VALIDATION, ...size });
    const [frames, height, width] = config.train_resolution;
    const { phases } = recordForecast(config, {
      model: pipeline.transformer,
      encoders: { t5, vae: pipeline.vae },
      target: device.target,
      limits: limits.limits,
    });
    const phaseOf = (name: string) => phases.find((phase) => phase.name === name)!;
    const sampling = phaseOf("validation sampling");
    const state = ["gradients", "optimizer state", "inputs"];
    const bytesOf = (names: readonly string[]) =>
      sampling.parts.reduce((sum, { name, bytes }) => names.includes(name) ? sum + bytes : sum, 0);

    await samePeak(phaseOf("text encoding"), 0, async (session) => {
      using encoder = openTextEncoder(session, path, { dtype: "bf16" });
      const prompt = Array.from({ length: pipeline.transformer.max_text_seq_length }, (_, i) => i % 8);
      await encoder.encode(Array.from({ length: 16 }, () => prompt));
    });
    await samePeak(phaseOf("video encoding"), 0, async (session) => {
      using vae = openVae(session, path);
      await vae.encode(emptyVolume([3, frames, height, width]));
    });
    await samePeak(
      phaseOf("validation decoding"),
      bytesOf([...state, "adapters", "frozen weights"]),
      async (session) => {
        using vae = openVae(session, path, { dtype: "bf16" });
        await vae.decode(emptyVolume([16, (frames - 1) / 4 + 1, height / 8, width / 8]));
      },
    );
    // Running the denoiser allocates the weights and adapters it reads.
    await samePeak(sampling, bytesOf(state), async (session) => {
      const { step: { model, shape, activation }, parameters } = describeRun(config, pipeline.transformer);
      const denoise = { model, shape, activation, guidance: "sequential", stochastic: true } as const;
      const recording = recordDenoise(device.target, session.limits, denoise, parameters);
      const table = positionTableShape(model);
      using denoiser = new Denoiser(session, recording, table && numbers(recording.inputs.positions!.size));
      const size = recording.latents.size;
      const prompt = numbers(recording.inputs.text.size);
      const condition = recording.inputs.condition && new Float32Array(recording.inputs.condition.size);
      const start = { latents: numbers(size), prompt, negative: prompt, condition, noise: () => numbers(size) };
      const scale = { timestep: 999, signal: 1, sigma: 1, latents: 1, clean: 1, previous: 0, noise: 1 };
      for await (const _ of denoiser.run([scale], start, { scales: [6] })) assert.ok(session.allocatedBytes > 0);
    });
  });
}
