/** Every model in both tasks and both training types, end to end from clips. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { openTransformer } from "../../lib/models/transformer/file.ts";
import { resolveConfig } from "../../lib/config/config.ts";
import { relativeL2 } from "../kernels/run.ts";
import { clipsFolder, pipelineFor } from "../reference.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";

const MODELS = [
  ["5b", "cogvideox-t2v", "bf16"],
  ["2b", "cogvideox-t2v", "fp16"],
  ["5b-i2v", "cogvideox-i2v", "bf16"],
  ["1.5-5b", "cogvideox1.5-t2v", "bf16"],
  ["1.5-5b-i2v", "cogvideox1.5-i2v", "no"],
] as const;

/** B of all layers of the adapters that a checkpoint holds, or of their averages. */
function upMatrices(checkpoint: string, suffix = ""): Float32Array {
  using file = openSafetensors(join(checkpoint, `pytorch_lora_weights${suffix}.safetensors`));
  const names = [...file.tensors.keys()].filter((name) => name.includes("lora_B")).sort();
  return Float32Array.from(names.flatMap((name) => [...file.readF32(name)]));
}

/** Whether adapters and their averages are what three steps have made of them; B begins as zero. */
function checkAdapters(run: string): void {
  const at = (step: number) => join(run, `checkpoint-${step}`);
  const [first, second, third] = [1, 2, 3].map((step) => upMatrices(at(step)));
  const expected = third!.map((value, i) => first![i]! / 8 + second![i]! / 4 + value / 2);
  assert.ok(relativeL2(upMatrices(at(3), "_ema"), expected) < 1e-6);
}

/** Whether all weights of a checkpoint are of this type, other than the model's, and averaged beside them. */
function checkWeights(checkpoint: string, model: string, dtype: string): void {
  using trained = openTransformer(checkpoint);
  using base = openTransformer(model);
  assert.deepEqual(trained.config, base.config);
  assert.equal(trained.source.tensors.get("proj_out.weight")!.dtype, dtype);
  const [before, after] = [base, trained].map(({ source }) => source.readF32("proj_out.weight"));
  const distance = relativeL2(after!, before!);
  assert.ok(distance > 0 && distance < 0.1, `${distance}`);
  assert.ok(existsSync(join(checkpoint, "transformer_ema", "config.json")));
}

for (const [model, name, precision] of MODELS) {
  Deno.test(`lora and sft of ${model} in ${precision} train from clips and begin with the loss of the model`, async () => {
    const path = pipelineFor(model);
    // Learned positions are for one size; nine frames of the others are three latent frames of 6 x 10.
    const { use_learned_positional_embeddings: fixed, ...shape } = openModelFolder(path).transformer;
    const [height, width] = fixed ? [8 * shape.sample_height, 8 * shape.sample_width] : [48, 80];
    const folder = Deno.makeTempDirSync();
    try {
      cpSync(clipsFolder, join(folder, "clips"), { recursive: true });
      const firstLosses: number[] = [];
      for (const type of ["lora", "sft"]) {
        const { config } = resolveConfig(`
model: tiny-${model}
model_path: ${path}
model_name: ${name}
training_type: ${type}
mixed_precision: ${precision}
data_root: ${join(folder, "clips")}
output_dir: ${join(folder, type)}
train_resolution: 9x${height}x${width}
rank: 4
lr_warmup_steps: 0
learning_rate: 0.0005
ema_decay: 0.5
train_steps: 3
checkpointing_steps: 1
`);
        const events = await collect(config);
        const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
        const skipped = events.filter(({ type }) => type === "skipped").length;
        // fp16 may lower its loss scale first; everything else makes every step.
        assert.equal(losses.length + skipped, 3);
        assert.ok(precision === "fp16" || skipped === 0);
        assert.ok(losses.every(Number.isFinite));
        const checkpoint = join(config.output_dir, "checkpoint-3");
        const expected = precision === "no" ? "F32" : precision === "fp16" ? "F16" : "BF16";
        if (type === "sft") checkWeights(checkpoint, path, expected);
        else if (skipped === 0) checkAdapters(config.output_dir);
        if (skipped === 0) firstLosses.push(losses[0]!);
      }
      const [lora, sft] = firstLosses;
      // Vectors of sft are rounded to the working type.
      assert.ok(sft === undefined || Math.abs(lora! / sft - 1) < (precision === "no" ? 1e-6 : 0.01), `${firstLosses}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

Deno.test("every optimizer trains, resumes exactly and saves its states", () =>
  inScratch(async (folder) => {
    for (const optimizer of ["adam", "adamw8bit", "prodigy", "came"]) {
      const rate = optimizer === "prodigy" ? 1 : 0.001;
      const at = (name: string) => ({ output_dir: join(folder, `${optimizer}-${name}`) });
      const extra = { optimizer, learning_rate: rate, ema_decay: 0.9, checkpointing_steps: 2, train_steps: 3 };
      await collect(configOf(folder, { ...extra, ...at("whole") }));
      await collect(configOf(folder, { ...extra, ...at("parts"), train_steps: 2 }));
      await collect(configOf(folder, { ...extra, ...at("parts"), resume_from_checkpoint: "latest" }));
      const state = (name: string) => readFileSync(join(at(name).output_dir, "checkpoint-3", "state.safetensors"));
      assert.deepEqual(state("parts"), state("whole"), optimizer);
    }
  }));

Deno.test("a learning rate of zero leaves every weight as it was", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { training_type: "sft", learning_rate: 0, train_steps: 2, mixed_precision: "no" });
    await collect(config);
    using trained = openTransformer(join(config.output_dir, "checkpoint-2"));
    using base = openTransformer(config.model_path!);
    for (const name of base.source.tensors.keys()) {
      assert.deepEqual(trained.source.readF32(name), base.source.readF32(name), name);
    }
  }));
