/** Decomposed adapters (DoRA) in whole runs: they start as the base model, resume, and mean what their file says. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { mergeLora } from "../../lib/models/lora/merge_into_weights.ts";
import { readLora } from "../../lib/models/lora/read.ts";
import { openTransformer, writeTransformer } from "../../lib/models/transformer/file.ts";
import type { HeldOutEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "./runs.ts";

const heldOut = (events: readonly TrainEvent[]) =>
  events.filter((event): event is HeldOutEvent => event.type === "heldout").map(({ loss }) => loss);

Deno.test("a DoRA starts as the base model, resumes with the same bits, and its file merges to what was trained", () =>
  inScratch(async (folder) => {
    const train = (name: string, extra: Record<string, unknown> = {}) =>
      collect(configOf(folder, {
        cache_dir: join(folder, "cache"),
        heldout_root: join(folder, "clips"),
        train_steps: 3,
        checkpointing_steps: 2,
        lr_warmup_steps: 0,
        learning_rate: 0.02,
        target_modules: ["to_q", "to_out.0", "ff.net.2"],
        use_dora: true,
        output_dir: join(folder, name),
        ...extra,
      }));
    const events = await train("whole");
    const [base] = heldOut(await train("plain", { use_dora: false, train_steps: 1 }));
    const [before, after] = heldOut(events);
    assert.ok(Math.abs(before! / base! - 1) < 1e-6, `${before} ${base}`);
    assert.ok(Math.abs(after! / base! - 1) > 1e-4, "training has changed the model");

    const file = (name: string) => readFileSync(join(folder, name, "checkpoint-3", "pytorch_lora_weights.safetensors"));
    await train("rest", { resume_from_checkpoint: join(folder, "whole", "checkpoint-2") });
    assert.deepEqual(file("rest"), file("whole"));

    const init_lora = join(folder, "whole", "checkpoint-3");
    const [started] = heldOut(await train("started", { init_lora, train_steps: 1, rank: 6 }));
    assert.ok(Math.abs(started! / after! - 1) < 1e-6, `${started} ${after}`);

    const lora = readLora(init_lora);
    const merged = join(folder, "merged");
    cpSync(configOf(folder).model_path!, merged, { recursive: true });
    rmSync(join(merged, "transformer"), { recursive: true });
    {
      using model = openTransformer(configOf(folder).model_path!);
      await writeTransformer(join(merged, "transformer"), model.configJson, mergeLora(model.source, lora.modules), {
        dtype: "f32",
      });
    }
    const [again] = heldOut(await train("merged run", { use_dora: false, train_steps: 1, model_path: merged }));
    assert.ok(Math.abs(again! / after! - 1) < 1e-5, `${again} ${after}`);
  }));
