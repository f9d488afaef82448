/** A run that trains nothing says so, in the end or as soon as it is plain. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { UserError } from "../../../lib/errors.ts";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import type { TrainingStep } from "../../../lib/step/training_step.ts";
import { SkippedSteps } from "../../../lib/train/checks/skipped_steps.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** Puts latents in the cache, of so many clips, that are finite and too large for every product of the model. */
async function enlargeLatents(config: TrainConfig, clips: number): Promise<void> {
  const { cache, samples } = await prepareData(config, openModelFolder(config.model_path!));
  const shape = [32, 3, 4, 6];
  for (const { latent } of samples.slice(0, clips)) {
    await cache.write(latent, { shape, data: new Float32Array(32 * 3 * 4 * 6).fill(1e38) });
  }
}

Deno.test("a run whose every step was skipped ends with an error that says why, and saves no result", () =>
  inScratch(async (folder) => {
    const cases = [
      [{ train_steps: 3, checkpointing_steps: 2 }, /None of the 3 steps .* non-finite loss .* on videos\/\w+\.mp4/],
      [{ train_steps: 1, mixed_precision: "fp16" }, /None of the 1 steps .* non-finite loss/],
      [{ train_steps: 30 }, /20 steps in a row .* on videos\/\w+\.mp4/],
    ] as const;
    await enlargeLatents(configOf(folder), 4);
    for (const [i, [overrides, message]] of cases.entries()) {
      const config = configOf(folder, { ...overrides, output_dir: join(folder, `run-${i}`) });
      const expected = (error: unknown) => error instanceof UserError && message.test(error.message);
      await assert.rejects(collect(config), expected);
      const steps = listCheckpoints(config.output_dir).map(({ step }) => step);
      assert.deepEqual(steps, i === 0 ? [2] : []);
    }
  }));

Deno.test("steps that were skipped for the factor on the loss alone get a hint about it", async () => {
  const skips = new SkippedSteps();
  skips.requireMade();
  const overflow = { step: 3, losses: [0.5], micros: [], scale: 65536, overflow: true };
  // Where the factor explains it, no tensor of the step is looked at.
  await skips.skipped({} as TrainingStep, overflow);
  assert.throws(
    () => skips.requireMade(),
    (error) => error instanceof UserError && /3 steps.*overflow/.test(error.message) && /65536/.test(error.hint!),
  );
});

Deno.test("a run goes on whose steps fail again and again, but never twenty in a row", () =>
  inScratch(async (folder) => {
    for (const list of ["prompts.txt", "videos.txt"]) {
      const path = join(folder, "clips", list);
      writeFileSync(path, readFileSync(path, "utf8").split("\n").slice(0, 2).join("\n"));
    }
    const config = configOf(folder, { train_steps: 42, checkpointing_steps: 100, learning_rate: 0 });
    await enlargeLatents(config, 1);
    const events = await collect(config);
    assert.equal(events.filter(({ type }) => type === "skipped").length, 21);
    assert.equal(events.filter(({ type }) => type === "step").length, 21);
    assert.ok(events.some((event) => event.type === "saved" && event.step === 42));
  }));
