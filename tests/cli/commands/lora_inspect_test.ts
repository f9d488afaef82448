import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { openShards } from "../../../lib/io/safetensors/shards.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { innerDim } from "../../../lib/models/transformer/config.ts";
import { updateNorm } from "../../../lib/models/lora/module.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { textLora } from "../../models/lora/stored.ts";
import { referencePath } from "../../reference.ts";
import { cli } from "../fakes.ts";

const { stored, plain, meta, model, rank, alpha } = textLora();
const transformer = openModelFolder(model).transformer;
const width = innerDim(transformer);
/** Layers with an adapter: four in every block. */
const layers = 4 * transformer.num_layers;

Deno.test("the norm of an update is what fusing changed in the library", () => {
  using fused = openSafetensors(referencePath(stored.file));
  using base = openShards(join(model, "transformer"), "diffusion_pytorch_model");
  const modules = [...readLora(plain).modules].filter(([layer]) => fused.tensors.has(`plain.fused1.0.${layer}.weight`));
  assert.equal(modules.length, 4);
  for (const [layer, module] of modules) {
    const [before, after] = [base.readF32(`${layer}.weight`), fused.readF32(`plain.fused1.0.${layer}.weight`)];
    const changed = Math.sqrt(after.reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0));
    // Weights and their fused form are stored in f32, which leaves about 1e-7 of each weight in the difference.
    assert.ok(Math.abs(updateNorm(module) - changed) < 1e-5 * changed, `${layer}: ${updateNorm(module)} ${changed}`);
  }
});

Deno.test("alpha from the metadata diffusers writes scales the update", () => {
  const [assumed, known] = [readLora(plain), readLora(meta)];
  assert.equal(assumed.modules.size, layers);
  for (const [layer, module] of assumed.modules) {
    const twin = known.modules.get(layer)!;
    assert.deepEqual([twin.alpha, twin.rank], [alpha, rank]);
    assert.ok(Math.abs(updateNorm(twin) - updateNorm(module) * twin.alpha / twin.rank) < 1e-12);
  }
});

Deno.test("lora inspect prints alpha, or what loaders would assume", async () => {
  const assumed = await cli(["lora", "inspect", plain]);
  assert.equal(assumed.code, 0, assumed.error);
  const parameters = (layers * 2 * rank * width).toLocaleString("en");
  const row = (alpha: string) => `^transformer_blocks\\.0\\.attn1\\.to_q +${rank} +${alpha} +${width} -> ${width}`;
  assert.match(assumed.out, /^Format: +diffusers$/m);
  assert.match(assumed.out, new RegExp(`^Layers: +${layers} \\(${parameters} parameters\\)$`, "m"));
  assert.match(assumed.out, /^Alpha: +not stored: loaders assume alpha = rank$/m);
  assert.match(assumed.out, new RegExp(`${row("-")} +\\d`, "m"));
  const known = await cli(["lora", "inspect", meta]);
  assert.match(known.out, new RegExp(`^Alpha: +${alpha}$`, "m"));
  assert.match(known.out, new RegExp(row(`${alpha}`), "m"));
});

Deno.test("lora inspect --json tells programs the same figures", async () => {
  const { out } = await cli(["lora", "inspect", plain, "--json"]);
  const told = JSON.parse(out);
  assert.deepEqual([told.type, told.format, told.base, told.layers.length], [
    "lora inspect",
    "diffusers",
    null,
    layers,
  ]);
  const [first] = readLora(plain).modules;
  const { layer, norm, ...rest } = told.layers[0];
  assert.deepEqual([layer, norm], [first![0], updateNorm(first![1])]);
  assert.deepEqual(rest, { rank, alpha: null, inFeatures: width, outFeatures: width });
});

Deno.test("lora inspect of a missing file is a user error", async () => {
  const { code, error } = await cli(["lora", "inspect", "no/such.safetensors"]);
  assert.equal(code, 2);
  assert.match(error, /Cannot open "no\/such\.safetensors"/);
});
