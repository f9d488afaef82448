/** Several updates of one weight at strengths of their own, and files that hold something else than was written. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { encodeF32 } from "../../../lib/io/safetensors/half.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { verifyWritten } from "../../../lib/models/lora/file.ts";
import { mergedSource } from "../../../lib/models/lora/merge_into_weights.ts";
import type { LoraModule } from "../../../lib/models/lora/module.ts";
import { numbers, relativeL2 } from "../../kernels/run.ts";

const [outFeatures, inFeatures] = [6, 20];

/** An update of the weight "layer" with a rank that is no multiple of four. */
function moduleOf(rank: number, seed: number, magnitude?: Float32Array<ArrayBuffer>): LoraModule {
  const [down, up] = [numbers(rank * inFeatures, seed), numbers(outFeatures * rank, seed + 1)];
  return { rank, alpha: 3, inFeatures, outFeatures, down, up, magnitude };
}

/** W + (alpha / rank) B A in float64, its rows given their norms where it is a DoRA. */
function updated(weight: Float32Array, { rank, alpha, down, up, magnitude }: LoraModule): Float64Array {
  const sum = Float64Array.from(weight, (value, i) => {
    const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
    for (let r = 0; r < rank; r++) value += alpha / rank * up[row * rank + r]! * down[r * inFeatures + column]!;
    return value;
  });
  if (magnitude === undefined) return sum;
  return sum.map((value, i) => {
    const row = Math.floor(i / inFeatures);
    const norm = Math.hypot(...sum.subarray(row * inFeatures, (row + 1) * inFeatures));
    return value * magnitude[row]! / norm;
  });
}

async function withFile(body: (path: string) => void | Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    await body(join(folder, "file.safetensors"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

Deno.test("of several LoRAs and DoRAs each adds its strength times what it would change alone", () =>
  withFile(async (path) => {
    const weight = numbers(outFeatures * inFeatures, 9);
    const data = encodeF32(weight, "f32");
    await writeSafetensors(path, [{ name: "layer.weight", dtype: "F32", shape: [outFeatures, inFeatures], data }]);
    using base = openSafetensors(path);
    const magnitude = numbers(outFeatures, 5).map((value) => 2 + value);
    const plain = moduleOf(3, 1), decomposed = moduleOf(5, 3, magnitude);
    const cases: readonly (readonly (readonly [LoraModule, number])[])[] = [
      [[plain, 1]],
      [[plain, -0.5]],
      [[decomposed, 1]],
      [[decomposed, 0.25]],
      [[plain, 0.5], [moduleOf(6, 7), 2]],
      [[plain, 0.5], [decomposed, 0.75], [plain, 1]],
    ];
    for (const updates of cases) {
      const loras = updates.map(([module, strength]) => ({ modules: new Map([["layer", module]]), strength }));
      const expected = Float64Array.from(weight);
      for (const [module, strength] of updates) {
        updated(weight, module).forEach((value, i) => expected[i]! += strength * (value - weight[i]!));
      }
      using merged = mergedSource(base, loras);
      assert.ok(relativeL2(merged.readF32("layer.weight"), expected) < 1e-7, `${updates.map(([, s]) => s)}`);
    }
  }));

Deno.test("a file is what was to be written when every byte is", () =>
  withFile(async (path) => {
    const data = encodeF32(numbers(8), "f32");
    const tensor = { name: "x", dtype: "F32" as const, shape: [2, 4], data };
    await writeSafetensors(path, [tensor], { metadata: { alpha: "4" } });
    verifyWritten(path, [tensor], { alpha: "4" });
    const changed = data.slice();
    changed[17]! ^= 1;
    assert.throws(() => verifyWritten(path, [{ ...tensor, data: changed }], { alpha: "4" }), /"x" has other values/);
    assert.throws(() => verifyWritten(path, [{ ...tensor, shape: [4, 2] }], { alpha: "4" }), /"x" is F32 \[2,4\]/);
    assert.throws(() => verifyWritten(path, [tensor], { alpha: "8" }), /metadata "alpha" differs/);
    assert.throws(() => verifyWritten(path, [], { alpha: "4" }), /1 tensors, expected 0/);
  }));
