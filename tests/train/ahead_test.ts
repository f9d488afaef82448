/** Micro-batches that are prepared while the GPU finishes the step before. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { StepEvent } from "../../lib/train/report/events.ts";
import { train } from "../../lib/train/trainer.ts";
import { configOf, inScratch } from "./runs.ts";

Deno.test("a micro-batch that can't be prepared ends the run at its own step, behind those that are made", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 2 });
    const told: string[] = [];
    const run = async () => {
      for await (const event of train(config)) {
        if (event.type === "step" || event.type === "saved") told.push(`${event.type} ${(event as StepEvent).step}`);
        // What step 2 reads is in memory by now; step 3 finds nothing.
        if (told.at(-1) === "step 1") rmSync(join(folder, "clips/cache"), { recursive: true, force: true });
      }
    };
    await assert.rejects(run, /has vanished or is damaged while training/);
    assert.deepEqual(told, ["step 1", "step 2", "saved 2"]);
  }));
