/** The room that a run asks for on disk against the bytes that it writes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { freeBytes } from "../../../lib/io/file_operations.ts";
import { checkDisks, checkpointBytes } from "../../../lib/train/checks/disk.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { describeRun } from "../../../lib/step/run_description.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** Headers of safetensors files, counters, config and manifest. */
const MOST_BESIDE = 65_536;

for (
  const [name, settings] of Object.entries({
    "adapters with AdamW": {},
    "all weights with an average": { training_type: "sft", ema_decay: 0.9, optimizer: "came" },
  })
) {
  Deno.test(`checkpointBytes() knows the size of a checkpoint: ${name}`, () =>
    inScratch(async (folder) => {
      const config = configOf(folder, { train_steps: 1, ...settings });
      const expected = checkpointBytes(describeRun(config, openModelFolder(config.model_path!).transformer));
      const saved = (await collect(config)).find((event) => event.type === "saved");
      assert.ok(saved !== undefined && saved.path === join(folder, "run/checkpoint-1"));
      const beside = saved.bytes - expected;
      assert.ok(beside >= 0 && beside < MOST_BESIDE, `${saved.bytes} written, ${expected} expected`);
    }));
}

Deno.test("checkDisks() warns of the checkpoints that are kept beside the one that is written", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2 ** 40, checkpointing_steps: 1 });
    const model = openModelFolder(config.model_path!);
    const run = describeRun(config, model.transformer);
    using data = await prepareData(config, model);
    const limit = Math.ceil(freeBytes(config.output_dir) / checkpointBytes(run)) * 2;
    const warned = (changes: object) => {
      const [warning] = checkDisks({ ...config, checkpointing_limit: limit, ...changes }, model, run, [data]);
      return Number(/^(\d+) checkpoints are kept at once/.exec(warning ?? "")?.[1]);
    };
    assert.equal(warned({}), limit + 1);
    assert.equal(warned({ train_steps: 5 * limit, checkpointing_steps: 6 }), Math.ceil(5 * limit / 6));
    assert.ok(Number.isNaN(warned({ checkpointing_limit: 1 })));
    // 4 clips in batches of 1 are 4 steps an epoch.
    assert.equal(warned({ train_steps: undefined, train_epochs: limit }), limit + 1);
    const longer = { train_steps: undefined, train_epochs: 3 * limit, checkpointing_steps: 16 };
    assert.equal(warned(longer), Math.ceil(3 * limit / 4));
  }));
