/** Adapters that begin where a LoRA file ends: the same update, whatever their rank and scale. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { declareLora, initialLora, type LoraConfig } from "../../../lib/models/lora/adapters.ts";
import { writeLora } from "../../../lib/models/lora/file.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { startFromFile } from "../../../lib/models/lora/start.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { numbers } from "../../kernels/run.ts";
import { collect, configOf, inScratch } from "../../train/runs.ts";

const shapes = parameterShapes({ ...RELEASED["2b"], num_layers: 2, num_attention_heads: 2 });
const uniform = (count: number) => Float64Array.from(numbers(count), (x) => x + 0.5);

/** scale B A in float64, row by row. */
function update(a: Float32Array, b: Float32Array, rank: number, scale: number): Float64Array {
  const [rows, columns] = [b.length / rank, a.length / rank];
  return Float64Array.from({ length: rows * columns }, (_, i) => {
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[Math.floor(i / columns) * rank + r]! * a[r * columns + i % columns]!;
    return scale * sum;
  });
}

/** A file's modules with the given rank and alpha. */
function modulesOf(layers: readonly string[], rank: number, alpha: number) {
  const entries = layers.map((layer, i) => {
    const [down, up] = [numbers(rank * 128, i), numbers(128 * rank, i + 9)];
    return [layer, { rank, alpha, inFeatures: 128, outFeatures: 128, down, up }] as const;
  });
  return { path: "a.safetensors", modules: new Map(entries) };
}

Deno.test("a file of rank 2 and alpha 3 gives the same update in adapters of rank 7 and alpha 4", () => {
  const config: LoraConfig = { rank: 7, alpha: 4, targets: ["to_q"] };
  const lora = declareLora(shapes, config);
  const initial = initialLora(lora, uniform);
  const [layer, other] = [...lora.layers.keys()];
  const file = modulesOf([layer!], 2, 3);
  const values = startFromFile(lora, file, initial);
  const { down, up } = file.modules.get(layer!)!;
  const expected = update(down, up, 2, 3 / 2);
  const found = update(values.get(`${layer}.lora_A.weight`)!, values.get(`${layer}.lora_B.weight`)!, 7, 4 / 7);
  const error = Math.max(...found.map((value, i) => Math.abs(value - expected[i]!)));
  // B is rounded to f32 once: 2^-24 of sums of about 1.
  assert.ok(error < 2e-7 && Math.max(...expected) > 0.5, `${error}`);
  // What the file lacks can learn: its rows of A are not zero.
  assert.deepEqual(
    values.get(`${layer}.lora_A.weight`)!.slice(2 * 128),
    initial.get(`${layer}.lora_A.weight`)!.slice(2 * 128),
  );
  assert.deepEqual(values.get(`${other}.lora_B.weight`), initial.get(`${other}.lora_B.weight`));
});

Deno.test("layers that are left out and ranks that are too small are listed together", () => {
  const lora = declareLora(shapes, { rank: 4, alpha: 4, targets: ["to_q"] });
  const file = modulesOf(["transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_k"], 8, 8);
  assert.throws(
    () => startFromFile(lora, file, initialLora(lora, uniform)),
    /2 problems\n.*to_q" has rank 8 in the file, but rank 4 here\n.*to_k" is adapted in the file, but target_modules/,
  );
});

Deno.test("a run without learning saves what init_lora brought, at ranks and scales of its own", () =>
  inScratch(async (folder) => {
    const base = openModelFolder(configOf(folder).model_path!).transformer;
    const config: LoraConfig = { rank: 2, alpha: 2, targets: ["to_q", "to_out.0"] };
    const values = new Map(initialLora(declareLora(parameterShapes(base), config), uniform));
    for (const [name, { length }] of values) values.set(name, numbers(length));
    const init_lora = join(folder, "of another trainer.safetensors");
    using written = openSafetensors(await writeLora(folder, values, { config, base }));
    const tensors = [...written.tensors].map(([name, { dtype, shape }]) => ({
      name,
      dtype,
      shape,
      data: written.readBytes(name),
    }));
    const stray = { name: "lora_te_x.alpha", dtype: "F32", shape: [1], data: new Float32Array(1) } as const;
    await writeSafetensors(init_lora, [...tensors, stray]);
    const run = { init_lora, rank: 4, rank_pattern: ["to_q=6"], use_rslora: true, train_steps: 1, learning_rate: 0 };
    const events = await collect(configOf(folder, run));
    const warnings = events.flatMap((event) => event.type === "warning" ? [event.message] : []);
    for (const text of ["does not state alpha: applied with alpha 2 at rank 2", 'a text encoder: "lora_te_x.alpha"']) {
      assert.ok(warnings.some((warning) => warning.includes(text)), `${text} in ${warnings}`);
    }
    const { modules } = readLora(`${folder}/run/checkpoint-1`);
    for (const [layer, { rank, alpha, down, up }] of modules) {
      const isQuery = layer.endsWith("to_q");
      assert.equal(rank, isQuery ? 6 : 4);
      // lora_alpha follows the rank of each layer: r / sqrt(r) = sqrt(r).
      assert.ok(Math.abs(alpha / rank - Math.sqrt(rank)) < 1e-14);
      const b = values.get(`${layer}.lora_B.weight`);
      if (b === undefined) assert.ok(up.every((value) => value === 0), layer);
      else {
        const found = update(down, up, rank, alpha / rank);
        const expected = update(values.get(`${layer}.lora_A.weight`)!, b, 2, 1);
        assert.ok(Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) < 2e-7, layer);
      }
    }
    assert.equal(modules.size, 8);
  }));
