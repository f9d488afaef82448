/** The whole chain can learn: one clip with fixed noise and timestep, adapters of full rank on every linear layer. */
import assert from "node:assert/strict";
import { createSampler } from "../../lib/data/random/sampler.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { makeBatch } from "../../lib/train/data/batches.ts";
import { fillDataCache } from "../../lib/train/data/fill_cache.ts";
import { prepareData } from "../../lib/train/data/prepare_data.ts";
import { describeRun } from "../../lib/step/run_description.ts";
import { uploadModel } from "../../lib/step/model_state.ts";
import { recordStep, TrainingStep } from "../../lib/step/training_step.ts";
import { testDevice } from "../kernels/run.ts";
import { configOf, inScratch } from "../train/runs.ts";

Deno.test("the loss of one fixed sample falls to a tenth within 300 steps", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { rank: 128, target_modules: ["*"] });
    const { device } = await testDevice();
    const model = openModelFolder(config.model_path!);
    const data = await prepareData(config, model);
    for await (const _ of fillDataCache(device, config, model, { ...data, samples: data.samples.slice(0, 1) }));
    const run = describeRun(config, model.transformer);
    using session = new Session(device);
    const { step: stepConfig, parameters, trainables } = run;
    const recording = recordStep(device.target, session.limits, stepConfig, parameters, trainables.buckets);
    using step = new TrainingStep(session, stepConfig, recording, trainables.buckets);
    await uploadModel(session, config, model, run, recording);
    const alphas = alphasCumprod(parseScheduleConfig(model.scheduler, "scheduler"));
    const source = {
      config,
      model: model.transformer,
      vae: model.vae,
      cache: data.cache,
      samples: data.samples,
      alphas,
    };
    const micro = createSampler({ samples: 1, batchSize: 1, accumulation: 1, seed: 1 }).microStep(0);
    const batch = makeBatch(source, micro.items);
    const losses: number[] = [];
    for (let k = 1; k <= 300 && !(losses.at(-1)! <= 0.1 * losses[0]!); k++) {
      step.begin();
      await step.micro(batch);
      losses.push((await step.update(0.003, k)).losses[0]!);
    }
    assert.ok(losses.at(-1)! <= 0.1 * losses[0]!, `from ${losses[0]} to ${losses.at(-1)} in ${losses.length} steps`);
  }));
