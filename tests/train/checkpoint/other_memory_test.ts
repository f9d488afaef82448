/** A run continues with other memory: what is streamed, offloaded, kept or computed again changes no bit of what it becomes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { collect, configOf, inScratch } from "../runs.ts";

/** Settings of one step after the other. */
const STEPS: readonly Readonly<Record<string, unknown>>[] = [
  {},
  { offload_optimizer: true, offload_activations: true },
  { base_weights: "streamed", gradient_checkpointing: true, keep: ["attention"] },
  { gradient_checkpointing: false },
];

Deno.test("a run whose memory settings change with every continuation has the bits of one that keeps its own", () =>
  inScratch(async (folder) => {
    const settings = { checkpointing_steps: 1, mixed_precision: "bf16", train_steps: STEPS.length };
    await collect(configOf(folder, { ...settings, output_dir: join(folder, "whole") }));
    for (const [i, memory] of STEPS.entries()) {
      const resume = i === 0 ? {} : { resume_from_checkpoint: "latest" };
      const events = await collect(configOf(folder, { ...settings, ...memory, ...resume, train_steps: i + 1 }));
      assert.ok(events.some((event) => event.type === "started" && event.step === i));
    }
    const read = (name: string, file: string) => readFileSync(join(folder, name, `checkpoint-${STEPS.length}`, file));
    for (const file of ["state.safetensors", "pytorch_lora_weights.safetensors"]) {
      assert.deepEqual(read("run", file), read("whole", file), file);
    }
  }));
