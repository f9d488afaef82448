/**
 * A NaN or an infinity in any weight, master, input, table, gradient or loss leaves every trained weight as it was, in the step
 * in which it appears. Every third tensor in the normal suite, all of them with three values each with COGTUNE_FULL.
 */
import assert from "node:assert/strict";
import { encodeF32, type StorageType } from "../../lib/io/safetensors/half.ts";
import { positionTableShape } from "../../lib/models/transformer/config.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { type MicroBatch, recordStep, TrainingStep } from "../../lib/step/training_step.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { LimitedSession } from "../limited_session.ts";
import { fillWeights, microBatch, tinyConfig } from "./tiny_run.ts";

const full = Deno.env.has("COGTUNE_FULL");
const values = full ? [NaN, Infinity, -Infinity] : [NaN];
const everyNth = full ? 1 : 3;

/** Bytes with one element in the middle replaced. */
function poisoned(bytes: ArrayBuffer, dtype: string, value: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes.slice(0));
  const element = encodeF32(Float32Array.of(value), dtype as StorageType);
  const size = element.byteLength;
  const at = Math.floor(copy.length / size / 2) * size;
  copy.set(new Uint8Array(element.buffer, element.byteOffset, size), at);
  return copy;
}

Deno.test("a value that is not finite, wherever it is, leaves all trained weights as they were", async () => {
  const config = tinyConfig({ model: "tiny-2b", gradient_accumulation_steps: 1 });
  const { device } = await testDevice();
  using session = new LimitedSession(device, {});
  const model = namedTransformer(config);
  const run = describeRun(config, model);
  const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
  await fillWeights(session, run, {});
  const learned = positionTableShape(model) && numbers(recording.inputs.positions!.size);
  uploadTables(session, model, run.step.shape, recording.inputs, { learned });
  using step = new TrainingStep(session, run.step, recording, run.trainables.buckets);
  const trained = run.updated.map(({ values }) => values);
  const start = await session.read(trained);
  const makeStep = async (batch: MicroBatch) => {
    step.begin();
    await step.micro(batch);
    return (await step.update(1e-3, 1)).skipped;
  };
  const sound = microBatch(recording, 1);
  const restart = () => {
    trained.forEach((tensor, i) => session.write(tensor, new Uint8Array(start[i]!)));
    session.clear([...recording.optimizer.states.values()]);
  };
  assert.equal(await makeStep(sound), false);
  const expected = await session.read(trained);
  assert.notDeepEqual(expected, start);
  restart();
  let injections = 0, caught = 0;
  for (const [i, tensor] of [...run.uploads.values(), ...trained].entries()) {
    if (i % everyNth !== 0) continue;
    const [bytes] = await session.read([tensor]);
    for (const value of values) {
      session.write(tensor, poisoned(bytes!, tensor.dtype, value));
      const before = await session.read(trained);
      const skipped = await makeStep(sound);
      // Nothing reads what the last block makes of the text: there a step is made, with the bits of a sound one.
      assert.deepEqual(await session.read(trained), skipped ? before : expected, `${value} in ${tensor.name}`);
      if (skipped) caught++;
      else restart();
      session.write(tensor, new Uint8Array(bytes!));
      injections++;
    }
  }
  for (const name of ["latents", "noise", "text"] as const) {
    for (const value of values) {
      const array = sound[name].slice();
      array[array.length >> 1] = value;
      assert.equal(await makeStep({ ...sound, [name]: array }), true, `${value} in the ${name}`);
      injections++;
      caught++;
    }
  }
  const { timesteps, alphas, weights } = sound;
  for (const value of values) {
    for (
      const changed of [
        { timesteps: timesteps.map(() => value) },
        { alphas: alphas.map(() => value) },
        { weights: weights.map(() => value) },
      ]
    ) {
      assert.equal(await makeStep({ ...sound, ...changed }), true, `${value} in the ${Object.keys(changed)}`);
      injections++;
      caught++;
    }
    // What is computed in a step, spoilt between its parts.
    for (const tensor of [...run.trainables.buckets.map(({ gradients }) => gradients), recording.loss]) {
      step.begin();
      await step.micro(sound);
      const [bytes] = await session.read([tensor]);
      const whole = tensor === recording.loss ? Float32Array.of(value, 0, 0, 0) : poisoned(bytes!, "f32", value);
      session.write(tensor, whole);
      assert.equal((await step.update(1e-3, 1)).skipped, true, `${value} in ${tensor.name}`);
      injections++;
      caught++;
    }
  }
  // A rank without micro-batches in the next step must not hold the loss of this one against it.
  step.begin();
  assert.equal((await step.update(0, 1)).skipped, false);
  assert.deepEqual(await session.read(trained), start, "no trained weight has changed");
  assert.ok(injections >= (full ? 200 : 25), `${injections} injections`);
  // deno-lint-ignore no-console
  if (full) console.log(`${injections} injections, ${caught} steps left out, the others without effect`);
  assert.ok(caught > 0.8 * injections, `${caught} of ${injections} injections stopped the step`);
});
