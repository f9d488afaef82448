/** More ranks than clips: in a step that has fewer micro-batches than ranks some ranks have none, and all agree on the sum. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { relativeL2 } from "../../kernels/run.ts";
import { collect, configOf, inScratch } from "../runs.ts";

Deno.test("three clips on four ranks train what they train on one, with canonical sums to the bit", () =>
  inScratch(async (folder) => {
    for (const list of ["videos.txt", "prompts.txt"]) {
      const path = join(folder, "clips", list);
      writeFileSync(path, `${readFileSync(path, "utf8").split("\n").slice(0, 3).join("\n")}\n`);
    }
    const run = async (name: string, gpus: number, reduction: string) => {
      const sizes = { gpus, gradient_accumulation_steps: 4 / gpus, train_steps: 2, checkpointing_steps: 2 };
      const config = configOf(folder, { ...sizes, reduction, lr_warmup_steps: 0, output_dir: join(folder, name) });
      const events = await collect(config);
      const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
      assert.equal(losses.length, 2, name);
      return { losses, state: readFileSync(join(config.output_dir, "checkpoint-2", "state.safetensors")) };
    };
    const one = await run("one", 1, "canonical");
    const four = await run("four", 4, "canonical");
    assert.deepEqual(four.losses, one.losses);
    assert.deepEqual(four.state, one.state);
    const ring = await run("ring", 4, "ring");
    assert.ok(relativeL2(ring.losses, one.losses) <= 1e-5, `${ring.losses}, ${one.losses}`);
  }));
