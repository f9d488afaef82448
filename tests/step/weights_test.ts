/** The weights of the samples of a micro-batch weigh their losses and their gradients alike. */
import assert from "node:assert/strict";
import { Session } from "../../lib/gpu/session.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { recordStep, TrainingStep } from "../../lib/step/training_step.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { fillWeights, microBatch, tinyConfig } from "./tiny_run.ts";

Deno.test("a batch has the weighted sum of its samples' losses and gradients, divided by the micro-batches", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const config = tinyConfig({ model: "tiny-5b", batch_size: 2, gradient_accumulation_steps: 4 });
  const model = namedTransformer(config);
  const run = describeRun(config, model);
  const { trainables: { buckets } } = run;
  const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
  await fillWeights(session, run, {});
  uploadTables(session, model, recording.shape, recording.inputs);
  using step = new TrainingStep(session, run.step, recording, buckets);
  const made = async (weights: readonly number[], lossScale = 1) => {
    step.begin();
    await step.micro({ ...microBatch(recording, 1), weights }, lossScale);
    const arrays = await session.read(buckets.map(({ gradients }) => gradients));
    const gradients = arrays.flatMap((bytes) => [...new Float32Array(bytes)]);
    return { loss: (await session.readF32(recording.loss))[0]!, gradients };
  };
  const [first, second] = [await made([1, 0]), await made([0, 1])];
  const both = await made([0.25, 0.5]);
  const sum = first.gradients.map((value, i) => 0.25 * value + 0.5 * second.gradients[i]!);
  assert.ok(relativeL2(both.gradients, sum) < 1e-5);
  assert.ok(Math.abs(both.loss / (0.25 * first.loss + 0.5 * second.loss) - 1) < 1e-5);
  assert.notEqual(first.loss, second.loss);
  const scaled = await made([1, 0], 1024);
  assert.ok(relativeL2(scaled.gradients.map((value) => value / 1024), first.gradients) < 1e-6);
  assert.equal(scaled.loss, first.loss);
});
