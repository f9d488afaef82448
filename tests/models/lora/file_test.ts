/** LoRA files: as diffusers writes and reads them, alpha explicit in every format, hostile files refused. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { declareLora, initialLora, type LoraConfig } from "../../../lib/models/lora/adapters.ts";
import { verifyWritten, writeLora, writeModules } from "../../../lib/models/lora/file.ts";
import { loraFormats } from "../../../lib/models/lora/keys.ts";
import { type LoraModules, productNorm } from "../../../lib/models/lora/module.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { parameterShapes, RELEASED, type TransformerConfig } from "../../../lib/models/transformer/config.ts";
import { numbers } from "../../kernels/run.ts";
import { FILE, storedLoras } from "./stored.ts";

const tiny: TransformerConfig = { ...RELEASED["5b"]!, num_attention_heads: 2, num_layers: 2, time_embed_dim: 64 };
const attention = ["to_q", "to_k", "to_v", "to_out.0"];

async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lora-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Values of the true rank with both halves filled. */
function randomValues(config: LoraConfig, model = tiny): Map<string, Float32Array<ArrayBuffer>> {
  const lora = declareLora(parameterShapes(model), config);
  const uniform = (count: number) => Float64Array.from(numbers(count), (x) => x + 0.5);
  const values = new Map(initialLora(lora, uniform));
  for (const [name, value] of values) if (name.endsWith("lora_B.weight")) values.set(name, numbers(value.length, 7));
  return values;
}

Deno.test("a written LoRA has the tensors and the metadata of the one diffusers writes", async () => {
  const [stored] = storedLoras();
  const { rank, alpha } = stored!;
  using golden = openSafetensors(join(stored!.meta, FILE));
  const base = openModelFolder(stored!.model).transformer;
  await inFolder(async (target) => {
    const { values } = readLora(stored!.meta);
    await writeLora(target, values, { config: { rank, alpha, targets: attention }, base });
    using written = openSafetensors(join(target, "pytorch_lora_weights.safetensors"));
    assert.deepEqual([...written.tensors.keys()], [...golden.tensors.keys()].sort());
    for (const [name, { dtype, shape }] of golden.tensors) {
      const info = written.tensors.get(name)!;
      assert.deepEqual([info.dtype, info.shape], [dtype, shape], name);
      assert.deepEqual(written.readBytes(name), golden.readBytes(name), name);
    }
    const parse = (file: typeof written) => JSON.parse(file.metadata.get("lora_adapter_metadata")!);
    const [ours, theirs] = [parse(written), parse(golden)];
    // Fields of one peft version would stop others from loading, so only lasting ones are written.
    for (const [key, value] of Object.entries(ours)) assert.deepEqual(value, theirs[key], key);
    for (const key of ["r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern"]) {
      assert.ok(`transformer.${key}` in ours, key);
    }
    assert.equal(written.metadata.get("format"), "pt");
  });
});

Deno.test("alpha is read where diffusers puts it, and taken for the rank where it is not stored", () => {
  for (const stored of storedLoras()) {
    const { rank, alpha } = stored;
    const [plain, meta] = [readLora(stored.plain), readLora(stored.meta)];
    assert.deepEqual([plain.rank, plain.alpha, plain.alphaStored], [rank, rank, false]);
    assert.deepEqual([meta.rank, meta.alpha, meta.alphaStored], [rank, alpha, true]);
    assert.deepEqual(plain.targets.toSorted(), attention.toSorted());
    assert.deepEqual([plain.format, plain.strays, plain.base], ["diffusers", [], undefined]);
    assert.equal(readLora(stored.plain, { alpha: 3 }).alpha, 3);
  }
});

Deno.test("every bit of f32 adapters survives, with rank, alpha and base model", async () => {
  await inFolder(async (target) => {
    const config = { rank: 6, alpha: 2.5, targets: ["attn1.*", "ff.net.2"] };
    const values = randomValues(config);
    const bits = new Uint32Array(values.get("transformer_blocks.0.attn1.to_q.lora_A.weight")!.buffer);
    // The smallest subnormal and the negative zero.
    bits.set([1, 0x80000000]);
    const path = await writeLora(join(target, "made/here"), values, { config, base: tiny });
    const read = readLora(path);
    assert.deepEqual(new Map(read.values), values);
    assert.deepEqual([read.rank, read.alpha, read.alphaStored], [6, 2.5, true]);
    assert.deepEqual([read.base?.family, read.base?.width, read.base?.layers], ["5b", 128, 2]);
    using file = openSafetensors(path);
    const metadata = JSON.parse(file.metadata.get("lora_adapter_metadata")!);
    // A pattern means nothing to peft: it gets the layers one by one.
    assert.deepEqual(metadata["transformer.target_modules"], [...read.modules.keys()].sort());
    assert.equal(metadata["transformer.target_modules"].length, 10);
  });
});

Deno.test("targets that peft would read more widely are written layer by layer", async () => {
  await inFolder(async (target) => {
    // To peft "proj" is also the convolution patch_embed.proj, which gets no adapter here.
    const config = { rank: 4, alpha: 4, targets: ["proj"] };
    const path = await writeLora(target, randomValues(config), { config, base: tiny });
    using file = openSafetensors(path);
    assert.deepEqual(JSON.parse(file.metadata.get("lora_adapter_metadata")!)["transformer.target_modules"], [
      "transformer_blocks.0.ff.net.0.proj",
      "transformer_blocks.1.ff.net.0.proj",
    ]);
  });
});

/** Layers of different ranks and alphas. */
function mixedModules(): LoraModules {
  const module = (rank: number, alpha: number, seed: number) => {
    return {
      rank,
      alpha,
      inFeatures: 8,
      outFeatures: 6,
      down: numbers(rank * 8, seed),
      up: numbers(rank * 6, seed + 1),
    };
  };
  return new Map([
    ["transformer_blocks.0.attn1.to_q", module(4, 2, 1)],
    ["transformer_blocks.0.attn1.to_out.0", module(4, 2, 3)],
    ["transformer_blocks.11.attn1.to_k", module(2, 2, 5)],
    ["transformer_blocks.1.attn1.to_v", module(4, 3, 7)],
  ]);
}

/** (alpha / rank) B A, the only thing a format has to preserve. */
function updates(modules: LoraModules): Map<string, Float64Array> {
  const sorted = [...modules].sort(([a], [b]) => a < b ? -1 : 1);
  return new Map(sorted.map(([layer, { rank, alpha, inFeatures, outFeatures, down, up }]) => {
    const product = Float64Array.from({ length: outFeatures * inFeatures }, (_, at) => {
      const [row, column] = [Math.floor(at / inFeatures), at % inFeatures];
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += up[row * rank + r]! * down[r * inFeatures + column]!;
      return sum * alpha / rank;
    });
    return [layer, product];
  }));
}

for (const format of loraFormats) {
  Deno.test(`layers of different ranks and alphas survive the ${format} format`, async () => {
    await inFolder(async (folder) => {
      const modules = mixedModules();
      const path = await writeModules(join(folder, "out"), modules, { format });
      const read = readLora(path);
      assert.equal(read.format, format);
      assert.equal(read.alphaStored, true);
      assert.deepEqual(read.strays, []);
      const [before, after] = [updates(modules), updates(read.modules)];
      assert.deepEqual([...after.keys()], [...before.keys()]);
      for (const [layer, expected] of before) {
        // SAT folds alpha into B, one rounding in f32; the others keep every bit.
        const limit = format === "sat" ? 2 ** -23 : 0;
        expected.forEach((value, at) => assert.ok(Math.abs(after.get(layer)![at]! - value) <= limit, layer));
      }
      if (format !== "sat") {
        for (const [layer, module] of modules) assert.equal(read.modules.get(layer)!.alpha, module.alpha);
      }
      await assert.rejects(writeModules(join(folder, "out"), modules, { format }), /exists already/);
    });
  });
}

Deno.test("names in every format are those of its loaders", async () => {
  const expected: Record<string, string[]> = {
    diffusers: ["transformer.transformer_blocks.0.attn1.to_out.0.lora_A.weight"],
    peft: ["base_model.model.transformer_blocks.0.attn1.to_out.0.lora_B.weight"],
    kohya: [
      "lora_unet__transformer_blocks_0_attn1_to_out_0.lora_down.weight",
      "lora_unet__transformer_blocks_0_attn1_to_out_0.lora_up.weight",
      "lora_unet__transformer_blocks_0_attn1_to_out_0.alpha",
    ],
    comfyui: ["diffusion_model.blocks.0.attn_out.lora_A.weight", "diffusion_model.blocks.0.attn_out.alpha"],
    sat: [
      "model.diffusion_model.transformer.layers.0.attention.dense.matrix_A.0",
      "model.diffusion_model.transformer.layers.11.attention.query_key_value.matrix_B.1",
    ],
  };
  await inFolder(async (folder) => {
    for (const format of loraFormats) {
      using file = openSafetensors(
        await writeModules(join(folder, `${format}.safetensors`), mixedModules(), { format }),
      );
      for (const name of expected[format]!) assert.ok(file.tensors.has(name), `${name} in ${[...file.tensors.keys()]}`);
      if (format === "diffusers") assert.ok([...file.tensors.keys()].every((name) => name.includes("lora")));
    }
    const layered = new Map([[
      "transformer_blocks.0.ff.net.2",
      mixedModules().get("transformer_blocks.0.attn1.to_q")!,
    ]]);
    await assert.rejects(
      writeModules(join(folder, "ff.safetensors"), layered, { format: "sat" }),
      /sat format.*\n.*"transformer_blocks\.0\.ff\.net\.2" has no name/,
    );
  });
});

Deno.test("halves are stored rounded, alpha is not", async () => {
  await inFolder(async (folder) => {
    const modules = new Map([...mixedModules()].map(([layer, module]) => [layer, { ...module, alpha: 1 / 3 }]));
    for (const [dtype, unit] of [["f16", 2 ** -11], ["bf16", 2 ** -8]] as const) {
      const read = readLora(await writeModules(join(folder, dtype), modules, { format: "kohya", dtype }));
      assert.deepEqual(read.dtypes, [dtype.toUpperCase()]);
      assert.equal(read.alpha, Math.fround(1 / 3));
      for (const [layer, { down }] of modules) {
        const stored = read.modules.get(layer)!.down;
        // Below 2^-14 the numbers of f16 are evenly spaced.
        down.forEach((value, at) => assert.ok(Math.abs(stored[at]! - value) <= unit * Math.abs(value) + 2 ** -25));
      }
    }
  });
});

Deno.test("peft gets its config, and a peft file without its own alpha takes it from there", async () => {
  await inFolder(async (folder) => {
    await writeModules(join(folder, "peft"), mixedModules(), { format: "peft", targets: ["to_q"] });
    const config = JSON.parse(readFileSync(join(folder, "peft/adapter_config.json"), "utf8"));
    assert.deepEqual([config.peft_type, config.r, config.lora_alpha, config.target_modules], ["LORA", 4, 2, ["to_q"]]);
    assert.deepEqual(config.rank_pattern, { "transformer_blocks.11.attn1.to_k": 2 });
    assert.deepEqual(config.alpha_pattern, { "transformer_blocks.1.attn1.to_v": 3 });
    using file = openSafetensors(join(folder, "peft/adapter_model.safetensors"));
    const tensors = [...file.tensors].map(([name, { dtype, shape }]): TensorToWrite => {
      return { name, dtype, shape, data: file.readBytes(name) };
    });
    const bare = join(folder, "bare");
    mkdirSync(bare);
    await writeSafetensors(join(bare, "adapter_model.safetensors"), tensors);
    assert.equal(readLora(bare).alphaStored, false);
    writeFileSync(join(bare, "adapter_config.json"), JSON.stringify({ ...config, use_rslora: true }));
    const read = readLora(bare);
    assert.equal(read.alphaStored, true);
    // Rank-stabilised: alpha / sqrt(rank) = 2 / 2 = 1 for rank 4, so alpha 4 of the usual kind.
    assert.equal(read.modules.get("transformer_blocks.0.attn1.to_q")!.alpha, 4);
  });
});

/** Writes a file of f32 tensors. */
function lora(path: string, shapes: Record<string, number[]>, metadata: Record<string, string> = {}): Promise<number> {
  const tensors = Object.entries(shapes).map(([name, shape]): TensorToWrite => {
    return { name, dtype: "F32", shape, data: numbers(shape.reduce((a, b) => a * b, 1)) };
  });
  return writeSafetensors(path, tensors, { metadata });
}

Deno.test("names of older tools and of convolutions are understood", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "old.safetensors");
    await lora(path, {
      "transformer.transformer_blocks.3.attn1.to_q.lora.down.weight": [2, 8],
      "transformer.transformer_blocks.3.attn1.to_q.lora.up.weight": [8, 2],
      "lora_unet_transformer_blocks_3_ff_net_0_proj.lora_down.weight": [2, 8],
      "lora_unet_transformer_blocks_3_ff_net_0_proj.lora_up.weight": [32, 2],
      "lora_unet__patch_embed_proj.lora_down.weight": [2, 16, 2, 2],
      "lora_unet__patch_embed_proj.lora_up.weight": [8, 2, 1, 1],
      "transformer_blocks.1.attn1.to_k.lora_A.default.weight": [2, 8],
      "transformer_blocks.1.attn1.to_k.lora_B.default.weight": [8, 2],
      "diffusion_model.transformer_blocks.4.attn1.to_out.0.lora_A.weight": [2, 8],
      "diffusion_model.transformer_blocks.4.attn1.to_out.0.lora_B.weight": [8, 2],
      "lora_te1_text_model.lora_down.weight": [2, 8],
    });
    const { modules, strays } = readLora(path);
    assert.deepEqual([...modules.keys()].sort(), [
      "patch_embed.proj",
      "transformer_blocks.1.attn1.to_k",
      "transformer_blocks.3.attn1.to_q",
      "transformer_blocks.3.ff.net.0.proj",
      "transformer_blocks.4.attn1.to_out.0",
    ]);
    assert.deepEqual(modules.get("patch_embed.proj")!.kernel, [2, 2]);
    assert.equal(modules.get("patch_embed.proj")!.inFeatures, 64);
    assert.deepEqual(strays, ["lora_te1_text_model.lora_down.weight"]);
    const copy = await writeModules(join(folder, "copy.safetensors"), modules, { format: "kohya" });
    using file = openSafetensors(copy);
    assert.deepEqual(file.tensors.get("lora_unet__patch_embed_proj.lora_up.weight")!.shape, [8, 2, 1, 1]);
  });
});

const q = "transformer.transformer_blocks.0.attn1.to_q";
const hostile: readonly (readonly [string, Record<string, number[]>, Record<string, string>, RegExp])[] = [
  ["no tensors", {}, {}, /holds no LoRA.*it has no tensors/],
  ["other names", { "unet.conv.weight": [2] }, {}, /holds no LoRA.*1 tensor of another kind: "unet\.conv\.weight"/],
  ["half a pair", { [`${q}.lora_A.weight`]: [2, 8] }, {}, /"transformer_blocks\.0\.attn1\.to_q" has no B/],
  [
    "ranks that differ",
    { [`${q}.lora_A.weight`]: [2, 8], [`${q}.lora_B.weight`]: [8, 3] },
    {},
    /found \[2,8\] and \[8,3\]/,
  ],
  ["rank zero", { [`${q}.lora_A.weight`]: [0, 8], [`${q}.lora_B.weight`]: [8, 0] }, {}, /found \[0,8\] and \[8,0\]/],
  ["a vector", { [`${q}.lora_A.weight`]: [8], [`${q}.lora_B.weight`]: [8, 1] }, {}, /found \[8\] and \[8,1\]/],
  ["norms alone", { [`${q}.dora_scale`]: [8] }, {}, /to_q" has neither A nor B/],
  ["a LoKr", { "lora_unet_x.lokr_w1": [8] }, {}, /is a LoKr/],
  [
    "one tensor twice",
    {
      [`${q}.lora_A.weight`]: [2, 8],
      [`${q}.lora_B.weight`]: [8, 2],
      "transformer_blocks.0.attn1.to_q.lora_A.weight": [2, 8],
    },
    {},
    /are the same tensor/,
  ],
  [
    "alpha that is no number",
    { [`${q}.lora_A.weight`]: [2, 8], [`${q}.lora_B.weight`]: [8, 2] },
    { lora_adapter_metadata: '{"transformer.lora_alpha": "much"}' },
    /lora_alpha is "much", expected a positive number\nHint: .*--alpha/,
  ],
  [
    "metadata that are no JSON",
    { [`${q}.lora_A.weight`]: [2, 8], [`${q}.lora_B.weight`]: [8, 2] },
    { lora_adapter_metadata: "alpha=4" },
    /lora_adapter_metadata is not a JSON object/,
  ],
  [
    "a pattern that takes forever",
    { [`${q}.lora_A.weight`]: [2, 8], [`${q}.lora_B.weight`]: [8, 2] },
    { lora_adapter_metadata: '{"transformer.lora_alpha": 1, "transformer.alpha_pattern": {"(a+)+$": 2}}' },
    /alpha_pattern "\(a\+\)\+\$" is no layer name/,
  ],
];

for (const [name, shapes, metadata, message] of hostile) {
  Deno.test(`refused: ${name}`, async () => {
    await inFolder(async (folder) => {
      const path = join(folder, "bad.safetensors");
      await lora(path, shapes, metadata);
      assert.throws(() => readLora(path), { message });
      if (!/alpha/.test(message.source)) return;
      assert.equal(readLora(path, { alpha: 2 }).alpha, 2, "a given alpha makes the broken entry irrelevant");
    });
  });
}

Deno.test("NaN and alpha of zero are refused together", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "nan.safetensors");
    const layer = "lora_unet__transformer_blocks_0_attn1_to_q";
    await writeSafetensors(path, [
      { name: `${layer}.lora_down.weight`, dtype: "F32", shape: [1, 2], data: Float32Array.of(1, NaN) },
      { name: `${layer}.lora_up.weight`, dtype: "F32", shape: [2, 1], data: Float32Array.of(1, 2) },
      { name: `${layer}.alpha`, dtype: "F32", shape: [], data: Float32Array.of(0) },
    ]);
    assert.throws(() => readLora(path), /2 problems[\s\S]*alpha" is 0[\s\S]*NaN or infinity/);
    assert.throws(() => readLora(join(folder, "none.safetensors")), /does not exist/);
  });
});

Deno.test("a failed save leaves the earlier file and nothing else", async () => {
  await inFolder(async (folder) => {
    const config = { rank: 4, alpha: 4, targets: attention };
    const values = randomValues(config);
    const path = await writeLora(folder, values, { config, base: tiny });
    const before = readFileSync(path);
    values.set("transformer_blocks.9.attn1.to_q.lora_A.weight", new Float32Array(512));
    await assert.rejects(writeLora(folder, values, { config, base: tiny }), TypeError);
    const large = new Map([...mixedModules()].map(([layer, m]) => [layer, { ...m, up: m.up.map(() => 1e6) }]));
    await assert.rejects(
      writeModules(folder, large, { format: "diffusers", dtype: "f16", replace: true }),
      /beyond the range of f16/,
    );
    const diverged = randomValues(config);
    diverged.get("transformer_blocks.1.attn1.to_v.lora_B.weight")![3] = NaN;
    await assert.rejects(
      writeLora(folder, diverged, { config, base: tiny }),
      /1 problem\n.*"transformer_blocks\.1\.attn1\.to_v" holds NaN/,
    );
    assert.deepEqual(readFileSync(path), before);
    assert.deepEqual(readdirSync(folder), ["pytorch_lora_weights.safetensors"]);
    const tensor = { name: "x", dtype: "F32", shape: [1], data: new Uint8Array(4) };
    assert.throws(
      () => verifyWritten(path, [tensor], { format: "np" }),
      /3 problems[\s\S]*"x" is missing[\s\S]*format/,
    );
  });
});

Deno.test("productNorm() is the norm of the product", () => {
  const [rank, inFeatures, outFeatures] = [3, 7, 5];
  const [down, up] = [numbers(rank * inFeatures, 3), numbers(outFeatures * rank, 4)];
  const module = { rank, alpha: rank, inFeatures, outFeatures, down, up };
  const square = updates(new Map([["x", module]])).get("x")!.reduce((sum, value) => sum + value * value, 0);
  assert.ok(Math.abs(productNorm(down, up, rank) - Math.sqrt(square)) < 1e-12 * Math.sqrt(square));
});

/** The scale that peft gives a layer: the patterns by regular expression, alpha / r or alpha / sqrt(r). */
function peftScale(config: Record<string, unknown>, layer: string): number {
  const field = (name: string) => config[`transformer.${name}`];
  const own = (pattern: string, common: string) => {
    const patterns = Object.entries(field(pattern) as Record<string, number>);
    return patterns.find(([key]) => new RegExp(`^(.*\\.)?(${key})$`).test(layer))?.[1] ?? field(common) as number;
  };
  const rank = own("rank_pattern", "r");
  return own("alpha_pattern", "lora_alpha") / (field("use_rslora") === true ? Math.sqrt(rank) : rank);
}

for (const rankStabilised of [false, true]) {
  Deno.test(`peft and this program read the trained scale of every layer, rank-stabilised ${rankStabilised}`, () =>
    inFolder(async (folder) => {
      const config: LoraConfig = {
        rank: 6,
        alpha: 3,
        targets: attention,
        ranks: [{ pattern: "to_q", value: 10 }],
        alphas: [{ pattern: "transformer_blocks.1.*", value: 7 }],
        rankStabilised,
      };
      const path = await writeLora(folder, randomValues(config), { config, base: tiny });
      using file = openSafetensors(path);
      const metadata = JSON.parse(file.metadata.get("lora_adapter_metadata")!);
      assert.deepEqual([metadata["transformer.r"], metadata["transformer.lora_alpha"]], [6, 3]);
      assert.equal(Object.keys(metadata["transformer.rank_pattern"]).length, 2);
      const { modules } = readLora(path);
      assert.equal(modules.size, 8);
      for (const [layer, { rank, alpha }] of modules) {
        const [r, a] = [layer.endsWith("to_q") ? 10 : 6, layer.includes("blocks.1.") ? 7 : 3];
        const scale = rankStabilised ? a / Math.sqrt(r) : a / r;
        assert.equal(rank, r);
        assert.ok(Math.abs(peftScale(metadata, layer) / scale - 1) < 1e-14, layer);
        assert.ok(Math.abs(alpha / rank / scale - 1) < 1e-14, layer);
      }
    }));
}

Deno.test("a DoRA has peft's keys, and every bit of it survives", () =>
  inFolder(async (folder) => {
    const config: LoraConfig = { rank: 4, alpha: 2, targets: ["to_q"], decomposed: true };
    const values = randomValues(config);
    const layers = ["transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn1.to_q"];
    layers.forEach((layer, i) => values.set(`${layer}.lora_magnitude_vector`, numbers(128, 30 + i)));
    const path = await writeLora(folder, values, { config, base: tiny });
    using file = openSafetensors(path);
    assert.deepEqual(file.tensors.get(`transformer.${layers[0]}.lora_magnitude_vector`)!.shape, [128]);
    assert.equal(JSON.parse(file.metadata.get("lora_adapter_metadata")!)["transformer.use_dora"], true);
    const read = readLora(path);
    assert.deepEqual(new Map(read.values), values);
    for (const format of ["peft", "kohya", "comfyui"] as const) {
      const written = await writeModules(join(folder, `${format}.safetensors`), read.modules, { format });
      assert.deepEqual(new Map(readLora(written).values), values, format);
    }
    await assert.rejects(
      writeModules(join(folder, "sat.safetensors"), read.modules, { format: "sat" }),
      /has no place for/,
    );
  }));
