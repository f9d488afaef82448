/** A step on micro-batches of several shapes: each adds the gradients that it has alone. */
import assert from "node:assert/strict";
import { Session } from "../../lib/gpu/session.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { microRecordings, recordStep, TrainingStep } from "../../lib/step/training_step.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { fillWeights, microBatch, runTiny, tinyConfig } from "./tiny_run.ts";

Deno.test("gradients of micro-batches of several shapes are the sum of those of each", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const config = tinyConfig({ model: "tiny-5b", buckets: ["9x48x80", "9x80x48", "17x32x48"], lora_dropout: 0.1 });
  const model = namedTransformer(config);
  const run = describeRun(config, model);
  const { trainables: { buckets } } = run;
  const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
  const shapes = microRecordings(recording);
  await fillWeights(session, run, {});
  for (const { shape, inputs } of shapes) uploadTables(session, model, shape, inputs);
  using step = new TrainingStep(session, run.step, recording, buckets);
  const gradients = async (order: readonly number[]) => {
    step.begin();
    for (const bucket of order) await step.micro(microBatch(shapes[bucket]!, bucket, bucket));
    const arrays = await session.read(buckets.map(({ gradients }) => gradients));
    return arrays.flatMap((bytes) => [...new Float32Array(bytes)]);
  };
  const alone = [await gradients([0]), await gradients([1]), await gradients([2])];
  for (const single of alone) assert.ok(single.some((value) => value !== 0));
  const sum = alone[0]!.map((value, i) => value + alone[1]![i]! + alone[2]![i]!);
  assert.ok(relativeL2(await gradients([0, 1, 2]), sum) < 1e-6);
  assert.ok(relativeL2(await gradients([2, 0, 1]), sum) < 1e-6);
});

Deno.test("steps on one bucket have the bits of steps at that shape", async () => {
  const shape = "9x80x48";
  const [bucket, plain] = [{ buckets: [shape] }, { train_resolution: shape }];
  const run = (settings: object) => runTiny(tinyConfig({ model: "tiny-1.5-5b-i2v", ...settings }));
  assert.deepEqual(await run(bucket), await run(plain));
});
