/** LoRA dropout in whole runs: drawn again when a block is computed again or a run resumed, and never where nothing trains. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { HeldOutEvent, StepEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "./runs.ts";

const lossesOf = (events: readonly TrainEvent[]) =>
  events.filter((event): event is StepEvent => event.type === "step").map(({ loss }) => loss);

Deno.test("dropout gives the same bits with and without checkpointing and after resuming; held-out clips see none", () =>
  inScratch(async (folder) => {
    const common = {
      cache_dir: join(folder, "cache"),
      target_modules: ["to_q", "ff.net.0.proj", "ff.net.2"],
      learning_rate: 0.01,
      lr_warmup_steps: 0,
      heldout_root: join(folder, "clips"),
      train_steps: 3,
      checkpointing_steps: 2,
    };
    const model = (name: string, step: number) =>
      readFileSync(join(folder, name, `checkpoint-${step}`, "pytorch_lora_weights.safetensors"));
    const train = (name: string, extra: Record<string, unknown>) =>
      collect(configOf(folder, { ...common, ...extra, output_dir: join(folder, name) }));
    const plain = await train("plain", {});
    const dropped = await train("dropped", { lora_dropout: 0.5 });
    await train("kept", { lora_dropout: 0.5, gradient_checkpointing: false });
    assert.deepEqual(model("kept", 3), model("dropped", 3));
    const rest = await train("rest", {
      lora_dropout: 0.5,
      resume_from_checkpoint: join(folder, "dropped", "checkpoint-2"),
    });
    assert.deepEqual(model("rest", 3), model("dropped", 3));
    assert.deepEqual(lossesOf(rest), lossesOf(dropped).slice(2));
    // B is zero at first, so that nothing is lost in the first step; then the inputs of A differ.
    assert.equal(lossesOf(dropped)[0], lossesOf(plain)[0]);
    assert.notEqual(lossesOf(dropped)[2], lossesOf(plain)[2]);
    const before = (events: readonly TrainEvent[]) =>
      events.find((event): event is HeldOutEvent => event.type === "heldout")!.loss;
    assert.equal(before(dropped), before(plain));
  }));
