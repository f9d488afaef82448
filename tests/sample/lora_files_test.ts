/** LoRA files applied as low-rank terms, against outputs of diffusers with set_adapters and fuse_lora. */
import assert from "node:assert/strict";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { writeSafetensors } from "../../lib/io/safetensors_writer.ts";
import { openModelFolder } from "../../lib/models/model_folder.ts";
import { transformer } from "../../lib/models/transformer.ts";
import { declareInputs, uploadTables, uploadTimesteps } from "../../lib/models/transformer_inputs.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { linearLayers, loadBaseModel } from "../../lib/sample/base_model.ts";
import { type LoraChoice, mergeLoras, readLora } from "../../lib/sample/lora_files.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { referenceTest } from "../reference.ts";

const FILE = "pytorch_lora_weights.safetensors";

/** The model's output for the stored inputs with these LoRAs, and what loading them noted. */
async function output(
  folder: string,
  variant: string,
  loras: readonly LoraChoice[],
): Promise<{ values: Float32Array; notes: readonly string[] }> {
  using golden = new Golden(`${folder}/lora/${variant}.safetensors`);
  const { device } = await testDevice();
  using session = new Session(device);
  const path = `${folder}/pipelines/tiny-${variant}`;
  const { transformer: config } = openModelFolder(path);
  using model = await loadBaseModel(session, path, config, { loras });
  const [batch, frames, , height, width] = golden.shape("hidden_states") as [number, number, number, number, number];
  const shape = { batch, frames, height, width, textRows: golden.shape("encoder_hidden_states")[1]! };
  const inputs = declareInputs(config, shape, "f32");
  session.write(inputs.latents, golden.f32("hidden_states"));
  session.write(inputs.text, golden.f32("encoder_hidden_states"));
  uploadTables(session, config, shape, inputs);
  uploadTimesteps(session, inputs, golden.integers("timestep"));
  const plan = new Plan({ target: device.target });
  const predicted = plan.output(transformer(plan, config, model.parameters, inputs, "f32"));
  using executable = new Executable(session, finish(plan, session.limits));
  executable.run();
  return { values: new Float32Array((await executable.read([predicted]))[0]!), notes: model.notes };
}

for (const variant of ["5b", "1.5-5b-i2v"]) {
  referenceTest(`LoRAs on ${variant} equal diffusers at every strength, alone and together`, async (folder) => {
    using golden = new Golden(`${folder}/lora/${variant}.safetensors`);
    const [plain, meta] = [`${folder}/lora/${variant}/${FILE}`, `${folder}/lora/${variant}-meta/${FILE}`];
    const cases: readonly [string, readonly LoraChoice[]][] = [
      ["output.base", []],
      ["output.plain.weight1.0", [{ path: plain, strength: 1 }]],
      ["output.plain.weight0.5", [{ path: plain, strength: 0.5 }]],
      ["output.meta.weight1.0", [{ path: meta, strength: 1 }]],
      ["output.meta.weight0.5", [{ path: meta, strength: 0.5 }]],
      // Both files hold the same matrices; with its alpha of half the rank the second counts half.
      ["output.plain.weight1.0", [{ path: plain, strength: 0.25 }, { path: meta, strength: 1.5 }]],
      ["output.base", [{ path: plain, strength: -0.5 }, { path: meta, strength: 1 }]],
    ];
    for (const [name, loras] of cases) {
      const { values, notes } = await output(folder, variant, loras);
      const error = relativeL2(values, golden.f32(name));
      assert.ok(error <= 1e-5, `${name} ${JSON.stringify(loras.map(({ strength }) => strength))}: ${error}`);
      assert.equal(notes.length, loras.filter(({ path }) => path === plain).length);
    }
  });
}

/** A scratch folder that is removed afterwards. */
async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const LAYERS = new Map<string, readonly [number, number]>([["a.to_q", [8, 4]], ["a.to_k", [8, 4]]]);

/** Writes f32 tensors. */
async function write(
  path: string,
  tensors: Readonly<Record<string, { shape: number[]; values: number[] }>>,
  metadata: Record<string, string> = {},
): Promise<void> {
  await writeSafetensors(
    path,
    Object.entries(tensors).map(([name, { shape, values }]) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: Float32Array.from(values),
    })),
    { metadata },
  );
}

const ones = (shape: number[], value = 1) => ({
  shape,
  values: Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => value),
});

Deno.test("readLora() understands the spellings of diffusers, CogKit and peft", async () => {
  await withFolder(async (folder) => {
    const spellings = [
      (layer: string, part: string) => `transformer.${layer}.lora_${part}.weight`,
      (layer: string, part: string) => `${layer}.lora_${part}.weight`,
      (layer: string, part: string) => `base_model.model.${layer}.lora_${part}.default.weight`,
      (layer: string, part: string) => `transformer.${layer}.lora.${part === "A" ? "down" : "up"}.weight`,
    ];
    for (const [i, spell] of spellings.entries()) {
      const path = `${folder}/${i}.safetensors`;
      await write(path, { [spell("a.to_q", "A")]: ones([3, 4]), [spell("a.to_q", "B")]: ones([8, 3], 2) });
      const { layers, alphaKnown } = readLora(path, LAYERS);
      assert.deepEqual([[...layers.keys()], alphaKnown], [["a.to_q"], false]);
      assert.equal(layers.get("a.to_q")!.scale, 1);
    }
  });
});

Deno.test("mergeLoras() stacks ranks, folds strengths and pads to a multiple of four", async () => {
  await withFolder(async (folder) => {
    const metadata = {
      lora_adapter_metadata: JSON.stringify({
        "transformer.lora_alpha": 6,
        "transformer.alpha_pattern": { "a.to_k": 1 },
      }),
    };
    const first = `${folder}/first.safetensors`, second = `${folder}/second.safetensors`;
    await write(first, {
      "a.to_q.lora_A.weight": ones([3, 4], 2),
      "a.to_q.lora_B.weight": ones([8, 3], 3),
      "a.to_k.lora_A.weight": ones([2, 4], 1),
      "a.to_k.lora_B.weight": ones([8, 2], 1),
    }, metadata);
    await write(second, { "a.to_q.lora_A.weight": ones([2, 4], 5), "a.to_q.lora_B.weight": ones([8, 2], 7) });
    const merged = mergeLoras([
      { file: readLora(first, LAYERS), strength: 0.5 },
      { file: readLora(second, LAYERS), strength: -1 },
    ]);
    const q = merged.get("a.to_q")!;
    assert.equal(q.rank, 8);
    // alpha / rank is 2 for to_q of the first file: factors 0.5 * 2 and -1.
    assert.deepEqual([...q.up.subarray(0, 8)], [3, 3, 3, -7, -7, 0, 0, 0]);
    assert.deepEqual([...q.down.subarray(0, 24)].filter((_, i) => i % 4 === 0), [2, 2, 2, 5, 5, 0]);
    const k = merged.get("a.to_k")!;
    assert.equal(k.rank, 4);
    assert.deepEqual([...k.up.subarray(0, 4)], [0.25, 0.25, 0, 0]);
  });
});

Deno.test("readLora() reports everything that does not fit at once", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/wrong.safetensors`;
    await write(path, {
      "transformer.a.to_q.lora_A.weight": ones([3, 4]),
      "transformer.a.to_q.lora_B.weight": ones([12, 3]),
      "transformer.b.to_v.lora_A.weight": ones([3, 4]),
      "transformer.b.to_v.lora_B.weight": ones([8, 3]),
      "transformer.a.to_k.lora_A.weight": ones([4, 4]),
      "stray": ones([4]),
    });
    assert.throws(() => readLora(path, LAYERS), (error: Error) => {
      assert.match(error.message, /wrong\.safetensors": 4 problems/);
      assert.match(error.message, /"a\.to_q": A \[3,4\] and B \[12,3\] do not fit a layer \[8,4\]/);
      assert.match(error.message, /no linear layer "b\.to_v"/);
      assert.match(error.message, /"a\.to_k": A \[4,4\] and B \[missing\]/);
      assert.match(error.message, /"stray" belongs to no pair/);
      return true;
    });
  });
});

referenceTest("every adapted layer of the stored LoRA is a linear layer of its model", (folder) => {
  const { transformer: config } = openModelFolder(`${folder}/pipelines/tiny-5b`);
  const { layers, alphaKnown } = readLora(`${folder}/lora/5b-meta/${FILE}`, linearLayers(config));
  assert.equal(layers.size, 8);
  assert.equal(alphaKnown, true);
  for (const { rank, scale } of layers.values()) assert.deepEqual([rank, scale], [4, 0.5]);
});
