/** How a run fills its cache, and what it leaves there. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { fillDataCache } from "../../../lib/train/data/fill_cache.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { testDevice } from "../../kernels/run.ts";
import { configOf, inScratch } from "../runs.ts";

async function fill(config: TrainConfig): Promise<TrainEvent[]> {
  const { device } = await testDevice();
  const model = openModelFolder(config.model_path!);
  using data = await prepareData(config, model);
  return await Array.fromAsync(fillDataCache(device, config, model, data));
}

Deno.test("a run counts prompts, clips and images apart, and removes what it does not use above cache_limit", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { model: "tiny-5b-i2v", model_name: "cogvideox-i2v", cache_limit: 0 });
    const counts = (events: readonly TrainEvent[]) => {
      const last = events.flatMap((event) => event.type === "cache" ? [[event.kind, event] as const] : []);
      return [...new Map(last)].map(([kind, { done, total, reused }]) => [kind, done, total, reused]);
    };
    const statuses = (events: readonly TrainEvent[]) =>
      events.flatMap((event) => event.type === "status" ? event.message.replace(/^.*: /, "") : []);
    const first = await fill(config);
    assert.deepEqual(counts(first), [["prompt", 4, 4, 0], ["video", 4, 4, 0], ["image", 16, 16, 0]]);
    assert.deepEqual(statuses(first), ["0 reused, 24 new, 0 changed"]);
    const prompts = join(folder, "clips", "prompts.txt");
    writeFileSync(prompts, readFileSync(prompts, "utf8").replace(/^\S+/, "Suddenly"));
    const second = await fill(config);
    assert.deepEqual(counts(second), [["prompt", 4, 4, 3], ["video", 4, 4, 4], ["image", 16, 16, 16]]);
    assert.match(statuses(second).join(), /^23 reused, 0 new, 1 changed \(prompt of .*\),removed 1 unused entries/);
    assert.deepEqual(statuses(await fill(config)), ["24 reused, 0 new, 0 changed"]);
  }));
