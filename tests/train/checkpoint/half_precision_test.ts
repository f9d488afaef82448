/** A run in fp16 goes on with the counters of its checkpoint: updates made, factor on the loss, steps since its last change. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commitFolder, manifestName } from "../../../lib/io/commit_folder.ts";
import type { StepEvent, TrainEvent } from "../../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const steps = (events: readonly TrainEvent[]) => events.filter((event): event is StepEvent => event.type === "step");

/** The counters that a checkpoint holds. */
function countersOf(checkpoint: string) {
  const { inputs: _, machine: __, ...counters } = JSON.parse(readFileSync(join(checkpoint, "trainer.json"), "utf8"));
  return counters;
}

Deno.test("a continued run makes the step, at the rate and with the factor, that its counters ask for", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { mixed_precision: "fp16", train_steps: 2 });
    const whole = steps(await collect(config));
    assert.deepEqual(whole.map(({ learningRate, lossScale }) => [learningRate, lossScale]), [[0, 65536], [
      5e-4,
      65536,
    ]]);
    const last = join(config.output_dir, "checkpoint-2");
    assert.deepEqual(countersOf(last), { step: 2, applied: 2, lossScale: { value: 65536, goodSteps: 2 } });
    // As if step 1 had been skipped, and 1999 good steps lay behind the last change of the factor.
    const counters = { step: 2, applied: 1, lossScale: { value: 256, goodSteps: 1999 } };
    const from = join(folder, "checkpoint-2");
    await commitFolder(from, (temporary) => {
      cpSync(last, temporary, { recursive: true });
      rmSync(join(temporary, manifestName));
      writeFileSync(join(temporary, "trainer.json"), JSON.stringify(counters));
    });
    const settings = { output_dir: join(folder, "continued"), train_steps: 4, resume_from_checkpoint: from };
    const rest = steps(await collect({ ...config, ...settings }));
    // A warm-up of two steps: half the rate behind one update, all of it behind two.
    assert.deepEqual(rest.map(({ step, learningRate, lossScale }) => [step, learningRate, lossScale]), [
      [3, 5e-4, 256],
      [4, 1e-3, 512],
    ]);
    assert.deepEqual(countersOf(join(folder, "continued", "checkpoint-4")), {
      step: 4,
      applied: 3,
      lossScale: { value: 512, goodSteps: 1 },
    });
  }));
