/** What a run tells of itself for its page: memory of the encoders, norms of the updates, pictures of its clips. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readLora } from "../../../lib/models/lora/read.ts";
import type { LoraModule } from "../../../lib/models/lora/module.ts";
import type { MemoryEvent, SavedEvent } from "../../../lib/train/report/events.ts";
import { readRunPage } from "../../../lib/train/report/page/page_data.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** |alpha / rank B A| element by element, in float64. */
function denseNorm({ rank, alpha, inFeatures, outFeatures, down, up }: LoraModule): number {
  let square = 0;
  for (let o = 0; o < outFeatures; o++) {
    for (let i = 0; i < inFeatures; i++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += up[o * rank + k]! * down[k * inFeatures + i]!;
      square += (alpha / rank * sum) ** 2;
    }
  }
  return Math.sqrt(square);
}

Deno.test("a run tells norms that the saved file has, memory that the plan knows, and shows its clips", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2, lora_alpha: 3, use_rslora: true, ema_decay: 0.5 });
    const events = await collect(config);
    const { path, updateNorms } = events.find((event): event is SavedEvent => event.type === "saved")!;
    const { modules } = readLora(join(path, "pytorch_lora_weights.safetensors"));
    assert.deepEqual(Object.keys(updateNorms!).sort(), [...modules.keys()].sort());
    for (const [layer, module] of modules) {
      const expected = denseNorm(module);
      assert.ok(expected > 0 && Math.abs(updateNorms![layer]! / expected - 1) < 1e-6, layer);
    }
    const memory = events.filter((event): event is MemoryEvent => event.type === "memory");
    assert.deepEqual(memory.map(({ phase }) => phase), ["text encoding", "video encoding", "training"]);
    for (const { phase, gpuBytes, plannedBytes } of memory) {
      // Fewer prompts than are encoded at once.
      if (phase === "text encoding") assert.ok(gpuBytes > 0 && gpuBytes < plannedBytes);
      else assert.equal(gpuBytes, plannedBytes, phase);
    }
    const page = readRunPage(readFileSync(join(config.output_dir, "index.html"), "utf8"))!;
    assert.deepEqual(page.memory.map(({ used }) => used), memory.map(({ gpuBytes }) => gpuBytes));
    assert.deepEqual([page.dataset.samples, page.dataset.clips.length], [4, 4]);
    assert.ok(page.dataset.clips.every(({ picture, prompt }) => picture !== undefined && prompt !== ""));
  }));
