/** Runs with measured kernels: what they measure and keep, how they continue, and that ranks agree. */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Problem } from "../../../kernels/core/kernel.ts";
import { createSingle } from "../../../lib/comm/exchange/single.ts";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { openDevice } from "../../../lib/gpu/device.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { roundsProducts } from "../../../lib/step/run_description.ts";
import { readRunState } from "../../../lib/train/checkpoint/checkpoint.ts";
import { recordForecast } from "../../../lib/forecast/forecast.ts";
import { chooseKernels } from "../../../lib/train/kernels.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { problemsOf } from "../../../lib/tune/problems.ts";
import { withRanks } from "../../comm/exchange/groups.ts";
import { engine } from "../../engine.ts";
import { testDevice } from "../../kernels/run.ts";
import { collect, configOf, inScratch } from "../runs.ts";
import { described, plant, problems, withCache } from "./planting.ts";

const tuning = (events: readonly TrainEvent[]) => events.filter(({ type }) => type === "tune").length;
const losses = (events: readonly TrainEvent[]) => events.flatMap((event) => event.type === "step" ? [event.loss] : []);

/** Measurements of a run's problems, of which the largest product is planted to take another kernel than it prefers. */
async function plantProduct(config: TrainConfig, open: number): Promise<Map<string, string>> {
  const { device } = await testDevice();
  const largest = problems(config, device).find(({ family }) => family === "gemm")!;
  return await plant(config, open, ({ key }) => key === largest.key ? "staged 32x64" : undefined);
}

Deno.test("a run measures what is not known, keeps its choice in checkpoints, and continues with it", () =>
  withCache((cache) =>
    inScratch(async (folder) => {
      const config = configOf(folder, { tune: "always", checkpointing_steps: 2 });
      const choices = await plantProduct(config, 1);
      const events = await collect(config);
      assert.equal(tuning(events), 2, "one problem was open");
      const checkpoint = join(config.output_dir, "checkpoint-2");
      const saved = readRunState(checkpoint).kernels!.choices;
      assert.deepEqual(Object.keys(saved).sort(), [...choices.keys()].sort());
      const others = Object.keys(saved).filter((key) => saved[key] !== choices.get(key));
      assert.ok(others.length <= 1, "all but the measured one are those that were known");

      const state = join(config.output_dir, "checkpoint-4", "state.safetensors");
      const whole = readFileSync(state);
      rmSync(join(cache, "cogtune"), { recursive: true });
      // Nothing is known and nothing is measured: the checkpoint says it all.
      const resumed = await collect({ ...config, tune: "never", resume_from_checkpoint: checkpoint });
      assert.equal(tuning(resumed), 0);
      assert.deepEqual(losses(resumed), losses(events).slice(2));
      assert.deepEqual(readFileSync(state), whole);

      // The choice matters to the last bit, so it was really used.
      const usual = await collect(configOf(folder, { output_dir: join(folder, "usual") }));
      assert.equal(tuning(usual), 0, "software drivers are not measured unasked");
      assert.notDeepEqual(losses(usual), losses(events));
      assert.equal(readRunState(join(folder, "usual", "checkpoint-4")).kernels, undefined);
    })
  ));

Deno.test("all ranks take what the first one chooses", () =>
  withCache(() =>
    inScratch(async (folder) => {
      const config = configOf(folder, { tune: "always" });
      const choices = await plantProduct(config, 0);
      const run = described(config);
      const found = await withRanks(2, async (communicator) => {
        using device = await openDevice({ engine });
        // Only the first rank's settings count.
        const own: TrainConfig = communicator.rank === 0 ? config : { ...config, tune: "never" };
        const question = { device, config: own, run, communicator, checkpoint: undefined };
        assert.deepEqual(await Array.fromAsync(chooseKernels(question)), []);
        return device.target.choices;
      });
      assert.deepEqual(found, [choices, choices]);
    })
  ));

Deno.test("a checkpoint of another card is continued with kernels chosen for this one", () =>
  withCache(() =>
    inScratch(async (folder) => {
      const config = configOf(folder, { tune: "always" });
      const choices = await plantProduct(config, 0);
      const state = { step: 1, applied: 1, lossScale: { value: 1, goodSteps: 0 } };
      const kernels = { card: "another", choices: { "gemm()": "plain" } };
      Deno.writeTextFileSync(join(folder, "trainer.json"), JSON.stringify({ ...state, kernels }));
      using device = await openDevice({ engine });
      const run = described(config);
      const question = { device, config, run, communicator: createSingle(), checkpoint: folder };
      const events = await Array.fromAsync(chooseKernels(question));
      assert.match(events.map((event) => event.type === "status" ? event.message : "").join(), /made on another/);
      assert.deepEqual(device.target.choices, choices);
    })
  ));

Deno.test("a forecast without a GPU has the problems of the run, so that it finds what was measured", async () => {
  const config = configOf("unused", { mixed_precision: "bf16" });
  using device = await openDevice({ engine });
  // As a GPU would have it: software drivers are kept off their matrix units.
  device.target = { ...device.target, mixed: roundsProducts(config) };
  const { transformer } = openModelFolder(config.model_path!);
  const { phases } = recordForecast(config, { model: transformer });
  const { work } = phases.find(({ name }) => name === "training")!;
  const keys = (found: readonly Problem[]) => found.map(({ key }) => key).sort();
  assert.deepEqual(keys(problemsOf(work.map(({ recording }) => recording))), keys(problems(config, device)));
});
