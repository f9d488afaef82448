/** Merging against the fused weights of diffusers, and merged against unmerged models through the project's own kernels. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Executable } from "../../../lib/gpu/executable.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { openSafetensors, type TensorSource } from "../../../lib/io/safetensors/safetensors.ts";
import { declareLora, type LoraValues, resizeMatrix } from "../../../lib/models/lora/adapters.ts";
import { baseModel } from "../../../lib/models/lora/base.ts";
import { fitLora } from "../../../lib/models/lora/fit.ts";
import { writeLora } from "../../../lib/models/lora/file.ts";
import { loraModules } from "../../../lib/models/lora/module.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { mergeLora } from "../../../lib/models/lora/merge_into_weights.ts";
import { declareTensors, Parameters } from "../../../lib/models/transformer/parameters.ts";
import { transformer } from "../../../lib/models/transformer/graph.ts";
import { parameterShapes, RELEASED, type TransformerConfig } from "../../../lib/models/transformer/config.ts";
import { openTransformer, writeTransformer } from "../../../lib/models/transformer/file.ts";
import { declareInputs, uploadTables, uploadTimesteps } from "../../../lib/models/transformer/inputs.ts";
import { uploadTensors } from "../../../lib/models/tensors/weights.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { finish } from "../../../lib/plan/recording.ts";
import { numbers, relativeL2, testDevice } from "../../kernels/run.ts";
import { caseName, pipelineFor, referencePath } from "../../reference.ts";
import { Golden } from "../golden.ts";
import { storedLoras } from "./stored.ts";

async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "merge-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A LoRA that stays outside the weights. */
interface Unmerged {
  readonly values: LoraValues;
  readonly rank: number;
  readonly alpha: number;
  readonly targets: readonly string[];
  readonly strength: number;
}

/** The model's output for the inputs of a golden file. */
async function forward(
  config: TransformerConfig,
  source: TensorSource,
  golden: Golden,
  lora?: Unmerged,
): Promise<Float32Array> {
  const { device } = await testDevice();
  using session = new Session(device);
  const shapes = parameterShapes(config);
  const tensors = declareTensors(shapes, { matrix: "f32", vector: "f32" });
  await uploadTensors(session, source, tensors);
  // The strength scales alpha: adapters have no other factor.
  const declared = lora && declareLora(shapes, { ...lora, alpha: lora.alpha * lora.strength });
  for (const [name, { master, trueShape }] of declared?.trainables.byName ?? []) {
    session.write(master, resizeMatrix(lora!.values.get(name)!, trueShape, master.shape));
  }
  const [batch, frames, , height, width] = golden.shape("hidden_states") as [number, number, number, number, number];
  const shape = { batch, frames, height, width, textRows: golden.shape("encoder_hidden_states")[1]! };
  const inputs = declareInputs(config, shape, "f32");
  session.write(inputs.latents, golden.f32("hidden_states"));
  session.write(inputs.text, golden.f32("encoder_hidden_states"));
  uploadTables(session, config, shape, inputs);
  uploadTimesteps(session, inputs, golden.integers("timestep"));
  const plan = new Plan({ target: device.target });
  const output = transformer(plan, config, new Parameters(tensors, declared?.adapters), inputs, "f32");
  plan.output(output);
  using executable = new Executable(session, finish(plan, session.limits));
  executable.run();
  return new Float32Array((await executable.read([output]))[0]!);
}

for (const { stored, plain, meta, model } of storedLoras()) {
  Deno.test(`merged and unmerged ${caseName(stored)} give the outputs and weights of diffusers`, async () => {
    using golden = new Golden(referencePath(stored.file));
    using base = openTransformer(model);
    const close = (what: string, actual: Float32Array, name: string) => {
      const error = relativeL2(actual, golden.f32(name));
      assert.ok(error <= 1e-5, `${what} differs from ${name} by ${error}`);
    };
    close("base", await forward(base.config, base.source, golden), "output.base");
    for (const [file, path] of [["plain", plain], ["meta", meta]] as const) {
      const lora = readLora(path);
      // `output.FILE.weight0.5` and `output.FILE.fused0.5` have strength 0.5.
      const outputsOf = Map.groupBy(
        golden.names.filter((name) => name.startsWith(`output.${file}.`)),
        (name) => name.replace(/^.*(weight|fused)/, ""),
      );
      assert.ok(outputsOf.size > 0);
      for (const [text, outputs] of outputsOf) {
        const strength = Number(text);
        const unmerged = await forward(base.config, base.source, golden, { ...lora, strength });
        await inFolder(async (temporary) => {
          const merged = join(temporary, "transformer");
          await writeTransformer(merged, base.configJson, mergeLora(base.source, lora.modules, { strength }), {
            dtype: "f32",
            maxShardBytes: 3e5,
          });
          using model = openTransformer(merged);
          const output = await forward(model.config, model.source, golden);
          for (const name of outputs) {
            close("unmerged", unmerged, name);
            close("merged", output, name);
          }
          const prefix = `${file}.fused${text}.`;
          for (const name of golden.names.filter((name) => name.startsWith(prefix))) {
            const error = relativeL2(model.source.readF32(name.slice(prefix.length)), golden.f32(name));
            // The library's own f32 fusing is off by 2.6e-8; one rounding of the exact sum is off by less.
            assert.ok(error <= 3e-8, `${name} differs by ${error}`);
          }
        });
      }
    }
  });
}

Deno.test("a written transformer folder is what diffusers expects", async () => {
  for (const variant of ["5b", "5b-i2v", "2b", "1.5-5b"]) {
    await inFolder(async (temporary) => {
      using base = openTransformer(join(pipelineFor(variant), "transformer"));
      const target = join(temporary, "out");
      const copies = mergeLora(base.source, new Map());
      await writeTransformer(target, base.configJson, copies, { maxShardBytes: 1e5 });
      assert.equal(readFileSync(join(target, "config.json"), "utf8"), base.configJson);
      const index = JSON.parse(readFileSync(join(target, "diffusion_pytorch_model.safetensors.index.json"), "utf8"));
      const shards = readdirSync(target).filter((name) => name.endsWith(".safetensors"));
      assert.ok(shards.length > 1);
      shards.forEach((name, i) => {
        const number = (value: number) => String(value).padStart(5, "0");
        assert.equal(name, `diffusion_pytorch_model-${number(i + 1)}-of-${number(shards.length)}.safetensors`);
        using shard = openSafetensors(join(target, name));
        assert.equal(shard.metadata.get("format"), "pt");
        const bytes = [...shard.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
        assert.ok(bytes <= 1e5 || shard.tensors.size === 1, `${name} has ${bytes} bytes`);
      });
      const bytes = [...base.source.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
      assert.equal(index.metadata.total_size, bytes);
      using copy = openTransformer(target);
      assert.deepEqual([...copy.source.tensors.keys()].sort(), [...base.source.tensors.keys()].sort());
      for (const [name, { dtype }] of base.source.tensors) {
        assert.equal(copy.source.tensors.get(name)!.dtype, dtype);
        assert.deepEqual(copy.source.readBytes(name), base.source.readBytes(name));
      }
      // One file without an index where everything fits, in another type.
      const single = join(temporary, "single");
      await writeTransformer(single, base.configJson, copies, { dtype: "bf16" });
      assert.deepEqual(readdirSync(single).sort(), [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "manifest.json",
      ]);
      await assert.rejects(writeTransformer(single, base.configJson, copies), /exists already/);
    });
  }
});

Deno.test("a folder is complete or absent", async () => {
  using base = openTransformer(pipelineFor("5b"));
  await inFolder(async (temporary) => {
    const target = join(temporary, "out");
    const tensors = mergeLora(base.source, new Map());
    await assert.rejects(writeTransformer(target, base.configJson, tensors.slice(1)), /missing "/);
    const large = tensors.map((tensor) => {
      const size = tensor.shape.reduce((a, b) => a * b, 1);
      return tensor.name === "proj_out.bias"
        ? {
          ...tensor,
          *data() {
            yield new Uint8Array(new Float32Array(size).fill(7e4).buffer);
          },
        }
        : tensor;
    });
    await assert.rejects(
      writeTransformer(target, base.configJson, large, { dtype: "f16" }),
      /"proj_out\.bias" holds 70000, beyond the largest f16 number/,
    );
    assert.deepEqual(readdirSync(temporary), []);
    writeFileSync(join(temporary, "config.json"), "{");
    assert.throws(() => openTransformer(temporary), /config\.json" is not JSON/);
    assert.throws(() => openTransformer(join(temporary, "none")), /Cannot read/);
    assert.equal(existsSync(target), false);
  });
});

Deno.test("merging sums in f64 for every rank and row block", () => {
  const [outFeatures, inFeatures] = [5, 6];
  for (const rank of [1, 3, 4, 6]) {
    const module = { rank, alpha: 3, inFeatures, outFeatures, down: numbers(rank * 6, 2), up: numbers(rank * 5, 3) };
    const weight = numbers(30, 4);
    const source: TensorSource = {
      tensors: new Map([["x.weight", { dtype: "F32", shape: [5, 6], byteOffset: 0, byteLength: 120 }]]),
      readBytes: (_name, begin = 0, end = 120) => new Uint8Array(weight.slice().buffer).slice(begin, end),
      readInto: () => assert.fail(),
      readF32: () => assert.fail(),
      [Symbol.dispose]: () => {},
    };
    const [tensor] = mergeLora(source, new Map([["x", module]]), { strength: -0.7 });
    const [piece] = tensor!.data() as Iterable<Uint8Array<ArrayBuffer>>;
    const merged = new Float32Array(piece!.buffer, piece!.byteOffset, 30);
    merged.forEach((value, at) => {
      let sum = 0;
      for (let r = 0; r < rank; r++) {
        sum += module.up[Math.floor(at / 6) * rank + r]! * module.down[r * 6 + at % 6]!;
      }
      const exact = weight[at]! - 0.7 * 3 / rank * sum;
      assert.ok(Math.abs(value - exact) <= 2 ** -24 * Math.abs(exact) + 1e-15, `${value} ${exact}`);
    });
  }
});

const small: TransformerConfig = { ...RELEASED["5b"]!, num_attention_heads: 2, num_layers: 2, time_embed_dim: 64 };

Deno.test("a LoRA of another model is refused with both names", async () => {
  await inFolder(async (folder) => {
    const config = { rank: 4, alpha: 4, targets: ["to_q"] };
    const values = (model: TransformerConfig) => {
      const entries = [...declareLora(parameterShapes(model), config).trainables.byName];
      return new Map(entries.map(([name, { shape }]) => [name, numbers(shape[0]! * shape[1]!)]));
    };
    const path = await writeLora(folder, values(small), { config, base: small });
    const lora = readLora(path);
    assert.deepEqual(fitLora(lora, small, "model").unmatched, []);
    const wrong: [Partial<TransformerConfig>, RegExp][] = [
      [{ in_channels: 32 }, /trained on CogVideoX-5B \(width 128, 2 blocks\), but "model" is CogVideoX-5B-I2V \(width/],
      [{ patch_size_t: 2 }, /but "model" is CogVideoX1\.5-5B \(width 128/],
      [{ use_rotary_positional_embeddings: false }, /but "model" is CogVideoX-2B \(width 128/],
      [{ num_layers: 3 }, /but "model" is CogVideoX-5B \(width 128, 3 blocks\)/],
      [{ text_embed_dim: 32 }, /but "model" is another CogVideoX-5B/],
    ];
    for (const [change, message] of wrong) {
      assert.throws(() => fitLora(lora, { ...small, ...change }, "model"), message);
    }
    // Without a note in the file, shapes have to tell.
    const anonymous = { ...lora, base: undefined };
    assert.throws(
      () => fitLora(anonymous, RELEASED["2b"]!, "model"),
      /width 128, but "model" is CogVideoX-2B: 2 problems/,
    );
    const wide = loraModules(
      new Map([
        ["transformer_blocks.0.attn1.to_q.lora_A.weight", new Float32Array(1920)],
        ["transformer_blocks.0.attn1.to_q.lora_B.weight", new Float32Array(1920)],
      ]),
      () => 1,
      parameterShapes(RELEASED["2b"]!),
    );
    assert.throws(
      () => fitLora({ ...anonymous, modules: wide }, RELEASED["5b"]!, "model"),
      /made for a model of width 1920, as CogVideoX-2B, but "model" is CogVideoX-5B/,
    );
    const shorter = fitLora(anonymous, { ...small, num_layers: 1 }, "model");
    assert.deepEqual(shorter.unmatched, ["transformer_blocks.1.attn1.to_q"]);
    const longer = fitLora(anonymous, { ...small, num_layers: 3 }, "model");
    assert.deepEqual(longer.uncovered, ["transformer_blocks.2.attn1.to_q"]);
  });
});

Deno.test("released models have the identity of their family", () => {
  const families = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"] as const;
  assert.deepEqual(families.map((name) => baseModel(RELEASED[name]).family), families);
  assert.equal(new Set(families.map((name) => baseModel(RELEASED[name]).digest)).size, families.length);
});
