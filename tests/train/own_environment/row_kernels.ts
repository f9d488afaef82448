/** Runs whose row operations add in another order than unmeasured ones: checkpoints say so, and runs that continue do the same. */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readRunState } from "../../../lib/train/checkpoint/checkpoint.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "../runs.ts";
import { plant, withCache } from "./planting.ts";

const losses = (events: readonly TrainEvent[]) => events.flatMap((event) => event.type === "step" ? [event.loss] : []);

/** Variants whose sums have another order than those that run unmeasured on a software driver. */
const OTHER_ORDERS: Readonly<Record<string, string>> = {
  layer_norm: "wide",
  layer_norm_backward: "wide 1 row",
  layer_norm_columns: "eight ahead, long parts",
  column_sums: "eight ahead, long parts",
  gate_sums: "eight ahead, long parts",
  head_norm_columns: "heads",
};

Deno.test("row operations measured to be faster in another order are recorded, and kept by a run that continues", () =>
  withCache((cache) =>
    inScratch(async (folder) => {
      // In f32, as rounding to bf16 would hide which order sums had.
      const settings = { training_type: "sft", mixed_precision: "no", train_steps: 2, checkpointing_steps: 1 };
      const config = configOf(folder, { ...settings, tune: "always" });
      const choices = await plant(config, 0, ({ family }) => OTHER_ORDERS[family]);
      const planted = [...choices].filter(([key]) => key.split("(")[0]! in OTHER_ORDERS);
      const families = new Set(planted.map(([key]) => key.split("(")[0]!));
      assert.deepEqual([...families].sort(), Object.keys(OTHER_ORDERS).sort(), "all of them are worth a measurement");
      const events = await collect(config);
      const checkpoint = join(config.output_dir, "checkpoint-1");
      const saved = readRunState(checkpoint).kernels!.choices;
      for (const [key, variant] of planted) assert.equal(saved[key], variant, key);

      const state = join(config.output_dir, "checkpoint-2", "state.safetensors");
      const whole = readFileSync(state);
      rmSync(join(cache, "cogtune"), { recursive: true });
      const resumed = await collect({ ...config, tune: "never", resume_from_checkpoint: checkpoint });
      assert.deepEqual(losses(resumed), losses(events).slice(1));
      assert.deepEqual(readFileSync(state), whole);

      const output_dir = join(folder, "usual");
      await collect(configOf(folder, { ...settings, output_dir }));
      const usual = readFileSync(join(output_dir, "checkpoint-2", "state.safetensors"));
      assert.ok(!usual.equals(whole), "the order shows in the last bits");
    })
  ));
