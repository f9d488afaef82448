/** The best of the held-out losses: what it is, that its model is kept, and that a run without progress ends. */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bestOf, isStale, type MeasuredLoss } from "../../../lib/train/checks/best_loss.ts";
import type { FinishedEvent, HeldOutEvent } from "../../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const measured = (...losses: number[]): MeasuredLoss[] => losses.map((loss, i) => ({ step: 10 * i, loss }));

Deno.test("the best is the first of the lowest finite losses", () => {
  assert.equal(bestOf([]), undefined);
  assert.equal(bestOf(measured(NaN, Infinity)), undefined);
  assert.equal(bestOf(measured(3, NaN, 1, 2, 1))!.step, 20);
});

Deno.test("a run is stale when as many measurements as its patience follow the best", () => {
  assert.equal(isStale(measured(3, 2, 2, 2.5), 3), false);
  assert.equal(isStale(measured(3, 2, 2, 2.5, NaN), 3), true);
  assert.equal(isStale(measured(3, 2, 2, 2.5, 1.9), 1), false);
  assert.equal(isStale([], 1), false);
});

Deno.test("keep_best and early_stop need a loss to look at", () => {
  assert.throws(
    () => configOf("/nowhere", { keep_best: true, early_stop: 2 }),
    /keep_best: needs heldout_root(.|\n)*early_stop: needs heldout_root/,
  );
});

Deno.test("the best model is kept, and a run that stops learning ends, interrupted or not", () =>
  inScratch(async (folder) => {
    const common = { heldout_root: join(folder, "clips"), heldout_steps: 1, checkpointing_steps: 1, keep_best: true };
    const events = await collect(configOf(folder, { ...common, learning_rate: 0.05, lr_warmup_steps: 0 }));
    const losses = events.filter((event): event is HeldOutEvent => event.type === "heldout");
    assert.deepEqual(losses.map(({ step }) => step), [0, 1, 2, 3, 4]);
    const trained = losses.slice(1);
    const lowest = trained.find(({ loss }) => loss === Math.min(...trained.map((event) => event.loss)))!;
    const model = (name: string) => readFileSync(join(folder, "run", name, "pytorch_lora_weights.safetensors"));
    assert.deepEqual(model("best"), model(`checkpoint-${lowest.step}`));
    const note = JSON.parse(readFileSync(join(folder, "run", "best", "heldout.json"), "utf8"));
    assert.deepEqual(note, { step: lowest.step, loss: lowest.loss });

    // At a rate of 0 every loss is that of step 0, so the second measurement behind it ends the run.
    rmSync(join(folder, "run"), { recursive: true });
    const still = { ...common, learning_rate: 0, early_stop: 2 };
    const finished = async (overrides: Record<string, unknown>) =>
      (await collect(configOf(folder, { ...still, ...overrides }))).at(-1) as FinishedEvent;
    const ended = await finished({});
    assert.deepEqual([ended.step, ended.interrupted, ended.bestStep], [2, false, 0]);
    // The lowest loss is that of the model before any step, which nobody needs a copy of.
    assert.equal(JSON.parse(readFileSync(join(folder, "run", "best", "heldout.json"), "utf8")).step, 1);
    const again = await finished({ resume_from_checkpoint: "latest" });
    assert.deepEqual([again.step, again.interrupted, again.path], [2, false, ended.path]);
    // What a continued run knows of the steps before its checkpoint is what the record tells.
    const fromFirst = await finished({ resume_from_checkpoint: join(folder, "run", "checkpoint-1") });
    assert.deepEqual([fromFirst.step, fromFirst.bestStep], [2, 0]);
  }));
