/** Every model in both tasks and both training types, end to end from clips. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { openTransformer } from "../../lib/models/transformer/file.ts";
import { resolveConfig } from "../../lib/config/config.ts";
import { clipsFolder, pipelineFor } from "../reference.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";

const MODELS = [
  ["5b", "cogvideox-t2v", "bf16"],
  ["2b", "cogvideox-t2v", "fp16"],
  ["5b-i2v", "cogvideox-i2v", "bf16"],
  ["1.5-5b", "cogvideox1.5-t2v", "bf16"],
  ["1.5-5b-i2v", "cogvideox1.5-i2v", "no"],
] as const;

for (const [model, name, precision] of MODELS) {
  for (const type of ["lora", "sft"]) {
    Deno.test(`${type} of ${model} in ${precision} trains from clips`, async () => {
      const path = pipelineFor(model);
      // Learned positions are for one size; nine frames of the others are three latent frames of 6 x 10.
      const { use_learned_positional_embeddings: fixed, ...shape } = openModelFolder(path).transformer;
      const [height, width] = fixed ? [8 * shape.sample_height, 8 * shape.sample_width] : [48, 80];
      const folder = Deno.makeTempDirSync();
      try {
        cpSync(clipsFolder, join(folder, "clips"), { recursive: true });
        const { config } = resolveConfig(`
model: tiny-${model}
model_path: ${path}
model_name: ${name}
training_type: ${type}
mixed_precision: ${precision}
data_root: ${join(folder, "clips")}
output_dir: ${join(folder, "run")}
train_resolution: 9x${height}x${width}
rank: 4
lr_warmup_steps: 0
learning_rate: 0.0005
ema_decay: 0.5
train_steps: 3
`);
        const events = await collect(config);
        const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
        const skipped = events.filter(({ type }) => type === "skipped").length;
        // fp16 may lower its loss scale first; everything else makes every step.
        assert.equal(losses.length + skipped, 3);
        assert.ok(precision === "fp16" || skipped === 0);
        assert.ok(losses.every(Number.isFinite));
        const checkpoint = join(folder, "run", "checkpoint-3");
        if (type === "lora") {
          const read = (suffix: string) => readFileSync(join(checkpoint, `pytorch_lora_weights${suffix}.safetensors`));
          assert.notDeepEqual(read(""), read("_ema"));
        } else {
          using trained = openTransformer(checkpoint);
          using base = openTransformer(config.model_path!);
          assert.deepEqual(trained.config, base.config);
          const expected = precision === "no" ? "F32" : precision === "fp16" ? "F16" : "BF16";
          assert.equal(trained.source.tensors.get("proj_out.weight")!.dtype, expected);
          assert.notDeepEqual(trained.source.readF32("proj_out.weight"), base.source.readF32("proj_out.weight"));
          assert.ok(existsSync(join(checkpoint, "transformer_ema", "config.json")));
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
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
