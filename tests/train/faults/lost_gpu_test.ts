/** A GPU that is lost in a step or in a save ends the run, leaves the checkpoint before it whole, and the run continues from it. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { verifyFolder } from "../../../lib/io/commit_folder.ts";
import { TrainingStep } from "../../../lib/step/training_step.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** A run whose GPU is lost in step 2: before its update reads anything back, or behind it, when the save reads. */
async function losing(when: "in the step" | "in the save", run: () => Promise<unknown>): Promise<void> {
  const { update } = TrainingStep.prototype;
  let updates = 0;
  try {
    TrainingStep.prototype.update = async function (...options) {
      const due = ++updates === 2;
      if (due && when === "in the step") this.session.device.gpu.destroy();
      const result = await update.apply(this, options);
      if (due && when === "in the save") this.session.device.gpu.destroy();
      return result;
    };
    await assert.rejects(run(), (error) => {
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(error.summary, /^The GPU was lost/);
      assert.match(error.hint!, /resume_from_checkpoint: latest/);
      return true;
    });
  } finally {
    TrainingStep.prototype.update = update;
  }
}

for (const when of ["in the step", "in the save"] as const) {
  Deno.test(`a GPU that is lost ${when} costs that step alone`, () =>
    inScratch(async (folder) => {
      const config = configOf(folder, { train_steps: 2, checkpointing_steps: 1, cache_dir: join(folder, "cache") });
      await losing(when, () => collect(config));
      const kept = readdirSync(config.output_dir).filter((name) => name.startsWith("checkpoint"));
      assert.deepEqual(kept, ["checkpoint-1"]);
      assert.deepEqual((await verifyFolder(join(config.output_dir, "checkpoint-1"))).problems, []);
      await collect({ ...config, resume_from_checkpoint: "latest" });
      await collect({ ...config, output_dir: join(folder, "whole") });
      const weights = (run: string) => readFileSync(join(run, "checkpoint-2", "pytorch_lora_weights.safetensors"));
      assert.deepEqual(weights(config.output_dir), weights(join(folder, "whole")));
    }));
}
