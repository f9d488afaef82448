/** LoRA files and models of unusual content: names nobody knows, types nobody trains in, rows of zeros, bad notes. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { baseModel, parseBase } from "../../../lib/models/lora/base.ts";
import { verifyWritten, writeModules } from "../../../lib/models/lora/file.ts";
import { loraKey, parseLoraKey } from "../../../lib/models/lora/keys.ts";
import { mergedSource } from "../../../lib/models/lora/merge_into_weights.ts";
import type { LoraModule } from "../../../lib/models/lora/module.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { RELEASED } from "../../../lib/models/transformer/config.ts";
import { withFolder } from "../../io/faulty_operations.ts";

const layer = "transformer_blocks.0.attn1.to_q";
const key = (part: string) => `transformer.${layer}.${part}`;

const module = (changes: Partial<LoraModule> = {}): LoraModule => ({
  rank: 1,
  inFeatures: 2,
  outFeatures: 2,
  alpha: 1,
  down: Float32Array.of(3, 4),
  up: Float32Array.of(1, 0),
  magnitude: undefined,
  ...changes,
});

Deno.test("a row of zeros under a DoRA merges to zeros, and the others to their norms", () =>
  withFolder(async (folder) => {
    const path = join(folder, "base.safetensors");
    const name = `${layer}.weight`;
    await writeSafetensors(path, [{ name, dtype: "F32", shape: [2, 2], data: new Float32Array(4) }]);
    using base = openSafetensors(path);
    const modules = new Map([[layer, module({ magnitude: Float32Array.of(10, 7) })]]);
    using merged = mergedSource(base, [{ modules, strength: 1 }]);
    // [3, 4] has norm 5 and is stretched to 10.
    assert.deepEqual(merged.readF32(name), Float32Array.of(6, 8, 0, 0));
    const bytes = new Uint8Array(8);
    merged.readInto(name, bytes, 4);
    assert.deepEqual(new Float32Array(bytes.buffer), Float32Array.of(8, 0));
  }));

Deno.test("tensors of integers, and problems without number, are told in a short message", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    const pair = (dtype: "I32" | "F32", name = key): TensorToWrite[] =>
      [["lora_A.weight", [1, 2]], ["lora_B.weight", [2, 1]]].map(([part, shape]) => ({
        name: name(part as string),
        dtype,
        shape: shape as number[],
        data: dtype === "I32" ? new Int32Array(2) : Float32Array.of(1, 2),
      }));
    const refused = async (tensors: TensorToWrite[], ...says: RegExp[]) => {
      await writeSafetensors(path, tensors);
      assert.throws(() => readLora(path), (error) => {
        assert.ok(error instanceof UserErrors, `${error}`);
        for (const expected of says) assert.match(error.message, expected);
        return true;
      });
    };
    await refused(pair("I32"), new RegExp(`"${layer}" is stored as I32: expected .*F32`));
    const norms = { name: key("lora_magnitude_vector"), dtype: "I32" as const, shape: [2], data: new Int32Array(2) };
    await refused([...pair("F32"), norms], /lora_magnitude_vector" is stored as I32/);
    const alpha = { name: key("alpha"), dtype: "F32" as const, shape: [2], data: Float32Array.of(1, 1) };
    await refused([...pair("F32"), alpha], /alpha" is F32 \[2\]: expected one positive number/);
    const many = Array.from(
      { length: 30 },
      (_, i) => pair("F32", (part) => `transformer.transformer_blocks.${i}.attn1.to_q.${part}`)[0]!,
    );
    await refused(many, /blocks\.0\.attn1\.to_q" has no B/, /and 18 more/);
  }));

Deno.test("keys of layers that no transformer has are no keys, and have no name in a format with a list", () => {
  for (
    const unknown of [
      "transformer.transformer_blocks.0.attn9.to_q.lora_A.weight",
      "lora_unet__transformer_blocks_0_attn9_to_q.lora_down.weight",
      "lora_unet__somewhere.lora_down.weight",
      "layers.0.attention.query_key_value.matrix_A.9",
      "diffusion_model.blocks.0.nothing.lora_A.weight",
      `transformer.${layer}.weight`,
    ]
  ) assert.equal(parseLoraKey(unknown), undefined, unknown);
  for (const format of ["comfyui", "sat"] as const) {
    for (const unknown of ["somewhere", "transformer_blocks.0.attn9.to_q"]) {
      assert.equal(loraKey(format, unknown, "down"), undefined, `${format} ${unknown}`);
    }
    assert.notEqual(loraKey(format, layer, "down"), undefined);
  }
  assert.equal(loraKey("comfyui", "proj_out", "down"), "diffusion_model.proj_out.lora_A.weight");
  assert.equal(loraKey("sat", layer, "alpha"), undefined);
});

Deno.test("a note on the base model counts when all of it is sound", () => {
  const base = baseModel(RELEASED["5b"]);
  assert.deepEqual(parseBase(JSON.parse(JSON.stringify(base))), base);
  const broken: Record<string, unknown>[] = [
    { family: 5 },
    { family: "a b" },
    { family: "x".repeat(41) },
    { digest: 7 },
    { digest: base.digest.toUpperCase() + "g" },
    { width: "3072" },
    { layers: 1.5 },
  ];
  for (const change of broken) assert.equal(parseBase({ ...base, ...change }), undefined, JSON.stringify(change));
  for (const value of [null, undefined, "5b", 5, []]) assert.equal(parseBase(value), undefined);
});

Deno.test("a folder in the place of the file keeps what it holds, and no half of a LoRA stays beside it", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    mkdirSync(join(path, "mine"), { recursive: true });
    await assert.rejects(
      writeModules(path, new Map([[layer, module()]]), { format: "diffusers", replace: true }),
      (error) => error instanceof UserError && /Cannot write ".*lora\.safetensors": a file stands/.test(error.message),
    );
    assert.deepEqual([readdirSync(folder), readdirSync(path)], [["lora.safetensors"], ["mine"]]);
  }));

Deno.test("a disk that gives back other bytes, shapes or notes than were written is found", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const tensor = (changes: { dtype?: string; shape?: number[]; data?: Uint8Array } = {}) => ({
      name: "a",
      dtype: "F32",
      shape: [1],
      data: new Uint8Array(4),
      ...changes,
    });
    await writeSafetensors(path, [{ name: "a", dtype: "F32", shape: [1], data: new Float32Array(1) }], {
      metadata: { note: "kept" },
    });
    verifyWritten(path, [tensor()], { note: "kept" });
    for (
      const [tensors, note, says] of [
        [[tensor({ data: Uint8Array.of(0, 0, 0, 1) })], "kept", /"a" has other values/],
        [[tensor({ shape: [1, 1] })], "kept", /"a" is F32 \[1\], expected F32 \[1,1\]/],
        [[tensor({ dtype: "I32" })], "kept", /"a" is F32 \[1\], expected I32 \[1\]/],
        [[], "kept", /1 tensors, expected 0/],
        [[tensor()], "changed", /metadata "note" differs/],
      ] as const
    ) {
      assert.throws(
        () => verifyWritten(path, tensors, { note }),
        (error) => error instanceof UserErrors && error.problems.length === 1 && says.test(error.problems[0]!),
      );
    }
  }));
