/** The room that a run asks for on disk against the bytes that it writes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkpointBytes } from "../../../lib/train/checks/disk.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { describeRun } from "../../../lib/step/run_description.ts";
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
