/** Weights stored in 8 bits: what is computed with is what the same numbers in bf16 give, bit by bit. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { Session } from "../../lib/gpu/session.ts";
import { encodeF32 } from "../../lib/io/safetensors/half.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../lib/io/safetensors/writer.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { mergeLora, storedTypes } from "../../lib/models/lora/merge_into_weights.ts";
import { openTextEncoder } from "../../lib/models/t5/encoder.ts";
import { openTransformer, writeTransformer } from "../../lib/models/transformer/file.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { checkParts } from "../../lib/train/checks/check_model.ts";
import { withFolder } from "../io/faulty_operations.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { examples } from "../train/runs.ts";

/** Fraction bits and bias of the formats, by the OCP specification. */
const FORMATS = { F8_E4M3: [3, 7], F8_E5M2: [2, 15] } as const;

/** The value of a finite pattern. */
function valueOf(bits: number, [fraction, bias]: readonly [number, number]): number {
  const exponent = (bits & 127) >> fraction;
  const mantissa = bits & ((1 << fraction) - 1);
  const magnitude = exponent === 0
    ? mantissa * 2 ** (1 - bias - fraction)
    : (2 ** fraction + mantissa) * 2 ** (exponent - bias - fraction);
  return bits > 127 ? -magnitude : magnitude;
}

/** A copy of the tiny model whose matrices hold patterns of 8 bits, stored so or as the bf16 numbers that they are. */
async function writeModel(model: string, format: keyof typeof FORMATS, narrow: boolean): Promise<void> {
  cpSync(join(examples, "tiny-2b"), model, { recursive: true });
  for (const [part, name] of [["transformer", "diffusion_pytorch_model"], ["text_encoder", "model"]] as const) {
    const path = join(model, part, `${name}.safetensors`);
    using file = openSafetensors(join(examples, "tiny-2b", part, `${name}.safetensors`));
    const tensors = [...file.tensors].map(([name, { dtype, shape }], seed): TensorToWrite => {
      if (shape.length < 2 || name === "proj_out.weight") {
        const data = encodeF32(file.readF32(name), "bf16");
        return { name, dtype: dtype === "I64" ? dtype : "BF16", shape, data };
      }
      // Patterns below 0.5 in magnitude, all signs and subnormals among them.
      const size = shape.reduce((a, b) => a * b, 1);
      const largest = ((FORMATS[format][1] - 1) << FORMATS[format][0]) - 1;
      const bits = Uint8Array.from(numbers(size, seed), (x, i) => Math.floor(Math.abs(x) * largest) | (i % 2 << 7));
      if (narrow) return { name, dtype: format, shape, data: bits };
      return {
        name,
        dtype: "BF16",
        shape,
        data: encodeF32(Float32Array.from(bits, (each) => valueOf(each, FORMATS[format])), "bf16"),
      };
    });
    await writeSafetensors(path, tensors);
  }
}

for (const format of ["F8_E4M3", "F8_E5M2"] as const) {
  Deno.test(`a model stored in ${format} is the model of its numbers`, () =>
    withFolder(async (folder) => {
      const { device } = await testDevice();
      using session = new Session(device);
      const results: { weights: ArrayBuffer[]; text: Float32Array[]; merged: Float32Array }[] = [];
      for (const narrow of [true, false]) {
        const path = join(folder, `${narrow}`);
        await writeModel(path, format, narrow);
        const model = openModelFolder(path);
        checkParts(model);
        using loaded = await loadTransformer(session, model);
        assert.equal(loaded.dtype, "bf16");
        const weights = await session.read([...loaded.parameters.tensors.values()]);
        using encoder = openTextEncoder(session, path);
        const text = await encoder.encode([[5, 17, 1, 0, 0]]);
        using base = openTransformer(path);
        await writeTransformer(join(folder, `merged-${narrow}`), base.configJson, mergeLora(base.source, new Map()), {
          dtype: storedTypes(base.source),
        });
        using merged = openTransformer(join(folder, `merged-${narrow}`));
        const name = "transformer_blocks.0.attn1.to_q.weight";
        assert.equal(merged.source.tensors.get(name)!.dtype, "BF16");
        results.push({ weights, text, merged: merged.source.readF32(name) });
      }
      assert.ok(results[0]!.merged.some((value) => value !== 0));
      assert.deepEqual(results[0], results[1]);
    }));
}
