/** Quantised weights: the kernel against the definition, and the error bounds of both kinds. */
import assert from "node:assert/strict";
import { codesPerWord, dequantise, NF4_LEVELS, type QuantisedKind } from "../../../kernels/matrix/dequantise.ts";
import { quantise } from "../../../lib/models/tensors/quantise.ts";
import { numbers, rounded, runLaunch } from "../run.ts";

function decode(kind: QuantisedKind, codes: Uint32Array, scales: Float32Array, block: number): number[] {
  const perWord = codesPerWord(kind);
  const bits = 32 / perWord;
  return Array.from({ length: codes.length * perWord }, (_, i) => {
    const code = codes[Math.floor(i / perWord)]! >>> (i % perWord * bits) & (2 ** bits - 1);
    const value = kind === "int8" ? code << 24 >> 24 : NF4_LEVELS[code]!;
    return Math.fround(Math.fround(value) * scales[Math.floor(i / block)]!);
  });
}

for (const [kind, rows, block] of [["int8", 7, 36], ["nf4", 9, 64], ["int8", 3, 3072], ["nf4", 150, 64]] as const) {
  Deno.test(`${kind} in ${rows} blocks of ${block} is widened exactly as its definition says`, async () => {
    const values = numbers(rows * block, 7);
    values.fill(0, 0, block);
    const { codes, scales } = quantise(kind, values, block);
    const padded = new Float32Array(Math.ceil(scales.length / 4) * 4);
    padded.set(scales);
    const expected = decode(kind, codes, scales, block);
    const spec = { kind, scales: kind === "int8" ? "f32" : "f16", y: "bf16" } as const;
    const launch = dequantise(spec, { elements: values.length, block });
    const [, , y] = await runLaunch(launch, [codes, padded, values.length]);
    assert.deepEqual([...y!], expected.map((value) => rounded(value, "bf16")));
  });
}

Deno.test("int8 is off by half a step at most, nf4 by half the widest gap between levels", () => {
  const gap = Math.max(...NF4_LEVELS.slice(1).map((level, i) => level - NF4_LEVELS[i]!));
  for (const [kind, bound] of [["int8", 0.5 / 127], ["nf4", gap / 2]] as const) {
    const values = numbers(64 * 100, 3);
    const { codes, scales } = quantise(kind, values, 64);
    decode(kind, codes, scales, 64).forEach((value, i) => {
      const largest = Math.max(...values.subarray(i - i % 64, i - i % 64 + 64).map(Math.abs));
      // The scale of nf4 is rounded to f16, one part in 2,048.
      assert.ok(Math.abs(value - values[i]!) <= largest * (bound + 1e-3), `${kind} ${values[i]} became ${value}`);
    });
  }
});

Deno.test("extremes keep their value in int8, zero is exact in both, and odd blocks are refused", () => {
  const values = Float32Array.of(1, -1, 0, 0.5, ...new Array(60).fill(0));
  for (const kind of ["int8", "nf4"] as const) {
    const { codes, scales } = quantise(kind, values, 64);
    const [one, minusOne, zero] = decode(kind, codes, scales, 64);
    assert.ok(Math.abs(one! - 1) < 1e-6 && Math.abs(minusOne! + 1) < 1e-6);
    assert.equal(zero, 0);
  }
  const spec = { kind: "nf4", scales: "f16", y: "f32" } as const;
  assert.throws(() => dequantise(spec, { elements: 60, block: 12 }), /multiple of 8/);
});
