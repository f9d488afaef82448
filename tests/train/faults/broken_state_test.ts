/**
 * Weights, moments and averages that are not finite end a run in the step in which they appear: nothing of them reaches
 * the disk, the last checkpoint stays, and the error names the value and what to continue from.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { findNonFinite } from "../../../lib/io/safetensors/finite.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import type { Tensor } from "../../../lib/plan/tensor.ts";
import { TrainingStep } from "../../../lib/step/training_step.ts";
import { train } from "../../../lib/train/trainer.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { configOf, inScratch } from "../runs.ts";

/** Picks what is spoilt. */
type Pick = (step: TrainingStep) => Tensor;

const state = (name: string): Pick => ({ recording }) => recording.optimizer.states.get(name)!;

/** A run in which a tensor becomes infinite before or after the update of a step, its events and its error. */
async function spoiltRun(
  folder: string,
  overrides: Record<string, unknown>,
  { pick, when, at }: { readonly pick: Pick; readonly when: "before" | "after"; readonly at: number },
): Promise<{ readonly events: TrainEvent[]; readonly error: unknown }> {
  const { update } = TrainingStep.prototype;
  let updates = 0;
  const spoil = (step: TrainingStep) => {
    const tensor = pick(step);
    step.session.write(
      tensor,
      new Uint32Array(tensor.bytes / 4).fill(tensor.dtype === "bf16" ? 0x7f807f80 : 0x7f800000),
    );
  };
  const events: TrainEvent[] = [];
  try {
    TrainingStep.prototype.update = async function (...options) {
      const due = ++updates === at;
      if (due && when === "before") spoil(this);
      const result = await update.apply(this, options);
      if (due && when === "after") spoil(this);
      return result;
    };
    for await (const event of train(configOf(folder, overrides))) events.push(event);
    return { events, error: undefined };
  } catch (error) {
    return { events, error };
  } finally {
    TrainingStep.prototype.update = update;
  }
}

/** Every tensor of every file that a run has left is finite. */
function assertFinite(folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".safetensors")) continue;
    using file = openSafetensors(join(folder, name));
    for (const [tensor, { dtype }] of file.tensors) {
      if (dtype === "F32") assert.equal(findNonFinite(file.readBytes(tensor), "f32"), -1, `${tensor} of ${name}`);
      if (dtype === "BF16") assert.equal(findNonFinite(file.readBytes(tensor), "bf16"), -1, `${tensor} of ${name}`);
    }
  }
}

const LORA = { checkpointing_steps: 1, ema_decay: 0.9, mixed_precision: "no" };
const SFT = {
  training_type: "sft",
  checkpointing_steps: 1,
  mixed_precision: "bf16",
  gradient_accumulation_steps: 1,
};

for (
  const [what, overrides, name] of [
    ["a first moment of adapters", LORA, "m.0"],
    ["a second moment of adapters in host memory", { ...LORA, offload_optimizer: true }, "v.0"],
    ["an average of adapters", LORA, "average.0"],
    ["a second moment of all weights in host memory", { ...SFT, offload_optimizer: true }, "v.1"],
    ["a compensation", { ...SFT, master_weights: "bf16_kahan" }, "compensation.0"],
    ["a scale of 8-bit moments", { ...LORA, optimizer: "adamw8bit" }, "scales.0"],
    ["a sum of Prodigy", { ...LORA, optimizer: "prodigy", learning_rate: 1 }, "s.0"],
  ] as const
) {
  Deno.test(`infinity in ${what} ends the run in the same step, and the checkpoint before it stays`, async () => {
    await inScratch(async (folder) => {
      const { events, error } = await spoiltRun(folder, overrides, { pick: state(name), when: "before", at: 2 });
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(error.summary, /^After 1 steps ".*" of .* is NaN or infinite at element \d+: the run ends/);
      assert.match(error.hint!, /^continue from checkpoint-1 with resume_from_checkpoint: latest/);
      const told = events.flatMap((event) => event.type === "step" || event.type === "saved" ? [event.step] : []);
      assert.deepEqual(told, [1, 1]);
      assert.deepEqual(readdirSync(join(folder, "run")).filter((file) => file.startsWith("checkpoint")), [
        "checkpoint-1",
      ]);
      assertFinite(join(folder, "run"));
    });
  });
}

Deno.test("what became infinite after an update is found by the save, which replaces nothing", async () => {
  await inScratch(async (folder) => {
    const one = { ...LORA, checkpointing_limit: 1 };
    for (const name of ["m.0", "average.0"]) {
      const { error } = await spoiltRun(folder, one, { pick: state(name), when: "after", at: 2 });
      assert.ok(error instanceof UserError, `${error}`);
      assert.equal(
        error.summary.startsWith(`After 2 steps "${name}" is NaN or infinite at element 0`),
        true,
        error.summary,
      );
      assert.match(error.hint!, /^continue from checkpoint-1 /);
      assertFinite(join(folder, "run"));
      await Deno.remove(join(folder, "run"), { recursive: true });
    }
  });
});

Deno.test("a weight that became infinite after an update makes the next step be skipped by name, and is never saved", async () => {
  await inScratch(async (folder) => {
    const pick: Pick = ({ buckets }) => buckets[0]!.values;
    const rare = { ...LORA, checkpointing_steps: 3 };
    const { events, error } = await spoiltRun(folder, rare, { pick, when: "after", at: 2 });
    const skipped = events.find(({ type }) => type === "skipped");
    assert.equal(skipped?.type === "skipped" && skipped.step, 3);
    assert.match(skipped?.type === "skipped" ? skipped.tensor : "", /transformer_blocks|attn/);
    assert.ok(error instanceof UserError, `${error}`);
    assert.match(error.summary, /^After 3 steps "values\.0" is NaN or infinite at element 0/);
    assert.match(error.hint!, /^there is no checkpoint yet/);
    assert.equal(existsSync(join(folder, "run", "checkpoint-3")), false);
    assertFinite(join(folder, "run"));
  });
});
