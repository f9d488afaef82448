import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { openShards } from "../../../lib/io/safetensors/shards.ts";
import { updateNorm } from "../../../lib/models/lora/module.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { referenceTest } from "../../reference.ts";
import { cli } from "../fakes.ts";

const files = {
  plain: "lora/5b/pytorch_lora_weights.safetensors",
  meta: "lora/5b-meta/pytorch_lora_weights.safetensors",
};

referenceTest("the norm of an update is what fusing changed in the library", (folder) => {
  using fused = openSafetensors(`${folder}/lora/5b.safetensors`);
  using base = openShards(`${folder}/pipelines/tiny-5b/transformer`, "diffusion_pytorch_model");
  const modules = [...readLora(`${folder}/${files.plain}`).modules].filter(([layer]) => layer.includes("blocks.1."));
  assert.equal(modules.length, 4);
  for (const [layer, module] of modules) {
    const [before, after] = [base.readF32(`${layer}.weight`), fused.readF32(`plain.fused1.0.${layer}.weight`)];
    const changed = Math.sqrt(after.reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0));
    // Weights and their fused form are stored in f32, which leaves about 1e-7 of each weight in the difference.
    assert.ok(Math.abs(updateNorm(module) - changed) < 1e-5 * changed, `${layer}: ${updateNorm(module)} ${changed}`);
  }
});

referenceTest("alpha from the metadata diffusers writes halves the update", (folder) => {
  const index = JSON.parse(readFileSync(`${folder}/index.json`, "utf8")) as { cases: Record<string, unknown>[] };
  const made = index.cases.find(({ file }) => file === files.meta)!.config as Record<string, number>;
  const [plain, meta] = [readLora(`${folder}/${files.plain}`), readLora(`${folder}/${files.meta}`)];
  // Two blocks with four targets each.
  assert.equal(plain.modules.size, 8);
  for (const [layer, module] of plain.modules) {
    const twin = meta.modules.get(layer)!;
    assert.deepEqual([twin.alpha, twin.rank], [made.alpha, made.rank]);
    assert.ok(Math.abs(updateNorm(twin) - updateNorm(module) * twin.alpha / twin.rank) < 1e-12);
  }
});

referenceTest("lora inspect prints alpha, or what loaders would assume", async (folder) => {
  const plain = await cli(["lora", "inspect", `${folder}/${files.plain}`]);
  assert.equal(plain.code, 0, plain.error);
  assert.match(plain.out, /^Format: +diffusers$/m);
  assert.match(plain.out, /^Layers: +8 \(8,192 parameters\)$/m);
  assert.match(plain.out, /^Alpha: +not stored: loaders assume alpha = rank$/m);
  assert.match(plain.out, /^transformer_blocks\.0\.attn1\.to_q +4 +- +128 -> 128 +\d/m);
  const meta = await cli(["lora", "inspect", `${folder}/${files.meta}`]);
  assert.match(meta.out, /^Alpha: +2$/m);
  assert.match(meta.out, /^transformer_blocks\.0\.attn1\.to_q +4 +2 +128 -> 128/m);
});

Deno.test("lora inspect of a missing file is a user error", async () => {
  const { code, error } = await cli(["lora", "inspect", "no/such.safetensors"]);
  assert.equal(code, 2);
  assert.match(error, /Cannot open "no\/such\.safetensors"/);
});
