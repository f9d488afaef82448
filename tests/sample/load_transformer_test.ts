/** LoRA files applied as low-rank terms, against outputs of diffusers with set_adapters and fuse_lora. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import type { LoraModule } from "../../lib/models/lora/module.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { transformer } from "../../lib/models/transformer/graph.ts";
import { declareInputs, uploadTables, uploadTimesteps } from "../../lib/models/transformer/inputs.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { loadTransformer, roundsWhenSampling } from "../../lib/sample/load_transformer.ts";
import { type LoraChoice, mergeLoras } from "../../lib/models/lora/stack.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { caseName, pipelineFor, referencePath } from "../reference.ts";
import { FILE, type StoredLora, storedLoras, textLora } from "../models/lora/stored.ts";

/** The model's output for the stored inputs with these LoRAs, and what loading them noted. */
async function output(
  { stored, model: folder }: StoredLora,
  loras: readonly LoraChoice[],
): Promise<{ values: Float32Array; notes: readonly string[] }> {
  using golden = new Golden(referencePath(stored.file));
  const { device } = await testDevice();
  using session = new Session(device);
  const pipeline = openModelFolder(folder);
  const config = pipeline.transformer;
  using model = await loadTransformer(session, pipeline, { loras });
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
  await executable.run();
  return { values: new Float32Array((await executable.read([predicted]))[0]!), notes: model.notes };
}

for (const lora of storedLoras()) {
  Deno.test(`LoRAs on ${caseName(lora.stored)} equal diffusers at every strength, alone and together`, async () => {
    using golden = new Golden(referencePath(lora.stored.file));
    const [plain, meta] = [join(lora.plain, FILE), join(lora.meta, FILE)];
    const alone = golden.names.flatMap((name): [string, LoraChoice[]][] => {
      const [, file, strength] = /^output\.(plain|meta)\.weight(.*)$/.exec(name) ?? [];
      return file === undefined
        ? []
        : [[name, [{ path: file === "plain" ? plain : meta, strength: Number(strength) }]]];
    });
    assert.ok(alone.length > 0);
    // Both files hold the same matrices; alpha / rank is what the second counts beside the first.
    const share = lora.alpha / lora.rank;
    const cases: readonly [string, readonly LoraChoice[]][] = [
      ["output.base", []],
      ...alone,
      ["output.plain.weight1.0", [{ path: plain, strength: 0.25 }, { path: meta, strength: 0.75 / share }]],
      ["output.base", [{ path: plain, strength: -share }, { path: meta, strength: 1 }]],
    ];
    for (const [name, loras] of cases) {
      const { values, notes } = await output(lora, loras);
      const error = relativeL2(values, golden.f32(name));
      assert.ok(error <= 1e-5, `${name} ${JSON.stringify(loras.map(({ strength }) => strength))}: ${error}`);
      assert.equal(notes.length, loras.filter(({ path }) => path === plain).length);
    }
  });
}

/** A module whose A and B are constant. */
function module(rank: number, alpha: number, a: number, b: number): LoraModule {
  const [inFeatures, outFeatures] = [4, 8];
  const down = new Float32Array(rank * inFeatures).fill(a);
  return { rank, alpha, inFeatures, outFeatures, down, up: new Float32Array(outFeatures * rank).fill(b) };
}

Deno.test("mergeLoras() stacks ranks, folds strengths and pads to a multiple of four", () => {
  const merged = mergeLoras([
    { modules: new Map([["q", module(3, 6, 2, 3)], ["k", module(2, 1, 1, 1)]]), strength: 0.5 },
    { modules: new Map([["q", module(2, 2, 5, 7)]]), strength: -1 },
  ]);
  const q = merged.get("q")!;
  assert.deepEqual([q.rank, q.inFeatures, q.outFeatures], [8, 4, 8]);
  // Strength times alpha / rank is 0.5 * 2 for the first and -1 for the second.
  for (let o = 0; o < 8; o++) assert.deepEqual([...q.up.subarray(8 * o, 8 * o + 8)], [3, 3, 3, -7, -7, 0, 0, 0]);
  assert.deepEqual([...q.down].filter((_, i) => i % 4 === 0), [2, 2, 2, 5, 5, 0, 0, 0]);
  const k = merged.get("k")!;
  assert.deepEqual([k.rank, ...k.up.subarray(0, 4)], [4, 0.25, 0.25, 0, 0]);
});

Deno.test("a LoRA of another model is refused, and the device stays empty", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const pipeline = openModelFolder(pipelineFor("2b"));
  const loras = [textLora().plain, "absent.safetensors"].map((path) => ({ path, strength: 1 }));
  await assert.rejects(loadTransformer(session, pipeline, { loras }), UserError);
  assert.equal(session.allocatedBytes, 0);
});

Deno.test("products round where matrices are stored in two bytes and nothing asks for exact ones", () => {
  const model = openModelFolder(pipelineFor("2b"));
  const rounds = (dtype: "f32" | "bf16" | undefined, precision: "mixed" | "exact") =>
    roundsWhenSampling(model, { dtype, precision });
  assert.deepEqual([rounds("bf16", "mixed"), rounds("f32", "mixed"), rounds("bf16", "exact")], [true, false, false]);
  // The golden pipeline of 2b is stored in f16, as the released one.
  assert.equal(rounds(undefined, "mixed"), true);
});
