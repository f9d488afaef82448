/** What a preset becomes on the GPU: shapes of the released models, parameter counts, storage types. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseTransformerConfig, RELEASED } from "../../lib/models/transformer/config.ts";
import { parseConfig, resolveConfig } from "../../lib/config/config.ts";
import { batchShape, describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { examples } from "../train/runs.ts";

function describe(preset: string, overrides: Readonly<Record<string, unknown>> = {}) {
  const config = parseConfig(`preset: ${preset}`, { overrides });
  return describeRun(config, namedTransformer(config));
}

const total = (tensors: Iterable<{ readonly size: number }>) => [...tensors].reduce((sum, { size }) => sum + size, 0);

Deno.test("a LoRA of rank 128 on 5b trains 132,120,576 values over 5,570,283,072 frozen ones in bf16", () => {
  const { trainables, uploads, step } = describe("5b-lora");
  assert.equal(total([...trainables.byName.values()].map(({ master }) => master)), 132_120_576);
  assert.equal(total(uploads.values()), 5_570_283_072);
  assert.equal(step.activation, "bf16");
  assert.deepEqual(new Set([...uploads.values()].map(({ dtype }) => dtype)), new Set(["bf16", "f32"]));
  assert.deepEqual(step.shape, { batch: 1, frames: 13, height: 60, width: 90, textRows: 226 });
});

Deno.test("sft of 2b trains all 1,693,783,872 parameters with f32 masters and f16 copies", () => {
  const { trainables, parameters } = describe("2b-sft");
  assert.equal(total([...trainables.byName.values()].map(({ master }) => master)), 1_693_783_872);
  for (const { master, working } of trainables.byName.values()) {
    assert.equal(master.dtype, "f32");
    assert.equal(working.dtype, "f16");
  }
  assert.deepEqual(parameters.get("patch_embed.proj.weight").shape, [1920, 64]);
});

Deno.test("81 frames at 768x1360 are 21 latent frames, padded to 22 for 1.5", () => {
  const config = parseConfig("preset: 1.5-5b-lora");
  const expected = { batch: 1, frames: 22, height: 96, width: 170, textRows: 226 };
  assert.deepEqual(batchShape(config, namedTransformer(config)), expected);
});

Deno.test("without mixed precision frozen weights keep the stored type and activations are f32", () => {
  const config = parseConfig("model: tiny-5b");
  const run = describeRun(config, namedTransformer(config), { stored: "bf16" });
  assert.equal(run.step.activation, "f32");
  assert.equal(run.uploads.get("proj_out.weight")!.dtype, "bf16");
  assert.equal(run.uploads.get("proj_out.bias")!.dtype, "f32");
});

Deno.test("memory switches that only checkpointing gives a meaning are noted without it", () => {
  const text = "model: tiny-2b\noffload_activations: true\nkeep: [attention]";
  const about = (source: string) =>
    resolveConfig(source).notes.filter((note) => /^config:\d+:\d+ (keep|offload)/.test(note));
  assert.deepEqual(about(text), []);
  assert.equal(about(`${text}\ngradient_checkpointing: false`).length, 2);
});

Deno.test("a config without a model has no known shape", () => {
  const config = parseConfig("model_name: cogvideox-t2v");
  assert.throws(() => namedTransformer(config), /model is not set/);
});

Deno.test("the example model has the shape of its preset", () => {
  const path = join(examples, "tiny-2b/transformer/config.json");
  assert.deepEqual(RELEASED["tiny-2b"], parseTransformerConfig(JSON.parse(readFileSync(path, "utf8")), path));
});
