/** A value that is not finite on one of two ranks: both leave their weights as they were, and go on with the same bits. */
import assert from "node:assert/strict";
import { positionTableShape } from "../../lib/models/transformer/config.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { createExchange } from "../../lib/step/exchange.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { type MicroBatch, recordStep, TrainingStep } from "../../lib/step/training_step.ts";
import { withRanks } from "../comm/exchange/groups.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { LimitedSession } from "../limited_session.ts";
import { fillWeights, microBatch, tinyConfig } from "./tiny_run.ts";

/** Spoils the micro-batch of a rank. */
type Spoil = (batch: MicroBatch, value: number) => MicroBatch;

const inside = (array: Float32Array<ArrayBuffer>, value: number) =>
  array.map((x, i) => i === array.length >> 1 ? value : x);

const SPOILS: Record<string, Spoil> = {
  latents: (batch, value) => ({ ...batch, latents: inside(batch.latents, value) }),
  noise: (batch, value) => ({ ...batch, noise: inside(batch.noise, value) }),
  text: (batch, value) => ({ ...batch, text: inside(batch.text, value) }),
  alphas: (batch, value) => ({ ...batch, alphas: batch.alphas.map(() => value) }),
  "weights of the loss": (batch, value) => ({ ...batch, weights: batch.weights.map(() => value) }),
};

for (const reduction of ["ring", "canonical"] as const) {
  Deno.test(`two ranks, ${reduction}: a value of one that is not finite stops both, whatever it is`, async () => {
    const { device } = await testDevice();
    let injections = 0;
    const ends = await withRanks(2, async (communicator) => {
      const config = tinyConfig({ model: "tiny-2b", gradient_accumulation_steps: 1, gpus: 2, reduction });
      using session = new LimitedSession(device, {});
      const model = namedTransformer(config);
      const { rank } = communicator;
      const run = describeRun(config, model, { rank });
      const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
      const exchange = createExchange({ session, communicator, run, reduction, loss: recording.loss });
      await fillWeights(session, run, {});
      const learned = positionTableShape(model) && numbers(recording.inputs.positions!.size);
      uploadTables(session, model, run.step.shape, recording.inputs, { learned });
      using step = new TrainingStep(session, run.step, recording, run.trainables.buckets);
      const trained = run.updated.map(({ values }) => values);
      const makeStep = async (batch: MicroBatch, loss?: number) => {
        step.begin();
        assert.deepEqual(exchange.begin(2), { begin: rank, end: rank + 1 });
        await step.micro(batch);
        if (loss !== undefined) session.write(recording.loss, Float32Array.of(loss, 0, 0, 0));
        await exchange.afterMicro();
        const squares = await exchange.finish();
        const { skipped } = await step.update(1e-3, 1, 1, squares);
        await exchange.afterUpdate();
        return skipped;
      };
      const sound = microBatch(recording, 1 + rank);
      const start = await session.read(trained);
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const [name, spoil] of Object.entries(SPOILS)) {
          for (const spoilt of [0, 1]) {
            const batch = rank === spoilt ? spoil(sound, value) : sound;
            assert.equal(await makeStep(batch), true, `${value} in the ${name} of rank ${spoilt}, rank ${rank}`);
            injections++;
          }
        }
        for (const spoilt of [0, 1]) {
          const skipped = await makeStep(sound, rank === spoilt ? value : undefined);
          assert.equal(skipped, true, `${value} in the loss of rank ${spoilt}, rank ${rank}`);
          injections++;
        }
      }
      assert.deepEqual(await session.read(trained), start);
      assert.equal(await makeStep(sound), false);
      return await session.read(trained);
    });
    assert.deepEqual(ends[0], ends[1]);
    assert.equal(injections, 2 * 36);
  });
}
