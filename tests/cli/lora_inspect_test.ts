import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { inspectLora, productNorm } from "../../lib/cli/lora_inspect.ts";
import { openSafetensors } from "../../lib/io/safetensors.ts";
import { referenceTest } from "../reference.ts";
import { cli } from "./fakes.ts";

Deno.test("productNorm() is the norm of the product", () => {
  const [rank, inFeatures, outFeatures] = [3, 7, 5];
  const a = Float32Array.from({ length: rank * inFeatures }, (_, i) => Math.fround(Math.sin(i + 1)));
  const b = Float32Array.from({ length: outFeatures * rank }, (_, i) => Math.fround(Math.cos(2 * i)));
  let square = 0;
  for (let o = 0; o < outFeatures; o++) {
    for (let i = 0; i < inFeatures; i++) {
      let value = 0;
      for (let r = 0; r < rank; r++) value += b[o * rank + r]! * a[r * inFeatures + i]!;
      square += value * value;
    }
  }
  assert.ok(Math.abs(productNorm(a, b, rank) - Math.sqrt(square)) < 1e-12 * Math.sqrt(square));
});

/** Reads one tensor of whichever shard of a tiny pipeline's transformer holds it. */
function baseWeight(folder: string, key: string): Float32Array {
  const transformer = `${folder}/pipelines/tiny-5b/transformer`;
  for (const name of readdirSync(transformer).filter((name) => name.endsWith(".safetensors"))) {
    using shard = openSafetensors(`${transformer}/${name}`);
    if (shard.tensors.has(key)) return shard.readF32(key);
  }
  return assert.fail(`no ${key}`);
}

referenceTest("inspectLora() gives the norm of what fusing changed in the library", (folder) => {
  using fused = openSafetensors(`${folder}/lora/5b.safetensors`);
  const modules = inspectLora(`${folder}/${files.plain}`).modules.filter(({ name }) => name.includes("blocks.1."));
  assert.equal(modules.length, 4);
  for (const { name, norm } of modules) {
    const key = `${name.replace("transformer.", "")}.weight`;
    const [before, after] = [baseWeight(folder, key), fused.readF32(`plain.fused1.0.${key}`)];
    const changed = Math.sqrt(after.reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0));
    // Weights and their fused form are stored in f32, which leaves about 1e-7 of each weight in the difference.
    assert.ok(Math.abs(norm - changed) < 1e-5 * changed, `${name}: ${norm} ${changed}`);
  }
});

const files = {
  plain: "lora/5b/pytorch_lora_weights.safetensors",
  meta: "lora/5b-meta/pytorch_lora_weights.safetensors",
};

referenceTest(
  "inspectLora() reads alpha from the metadata diffusers writes, and halves the update with it",
  (folder) => {
    const index = JSON.parse(readFileSync(`${folder}/index.json`, "utf8")) as { cases: Record<string, unknown>[] };
    const made = index.cases.find(({ file }) => file === files.meta)!.config as Record<string, number>;
    const [plain, meta] = [inspectLora(`${folder}/${files.plain}`), inspectLora(`${folder}/${files.meta}`)];
    // Two layers with four targets each.
    assert.equal(plain.modules.length, 8);
    assert.deepEqual(plain.targets.toSorted(), ["to_k", "to_out.0", "to_q", "to_v"]);
    assert.deepEqual([plain.strays, meta.strays], [[], []]);
    const metaOf = new Map(meta.modules.map((module) => [module.name, module]));
    for (const module of plain.modules) {
      const twin = metaOf.get(module.name)!;
      assert.equal(module.alpha, undefined);
      assert.equal(twin.alpha, made.alpha ?? made.lora_alpha);
      assert.equal(twin.rank, made.rank ?? made.r);
      assert.ok(Math.abs(twin.norm - module.norm * twin.alpha! / twin.rank) < 1e-12);
    }
  },
);

referenceTest("lora inspect prints what loaders would assume", async (folder) => {
  const plain = await cli(["lora", "inspect", `${folder}/${files.plain}`]);
  assert.equal(plain.code, 0, plain.error);
  assert.match(plain.out, /^Alpha: +not stored: loaders assume alpha = rank$/m);
  assert.match(plain.out, /^transformer\.transformer_blocks\.0\.attn1\.to_q +\d+ +- +128 -> 128 +F32/m);
});
