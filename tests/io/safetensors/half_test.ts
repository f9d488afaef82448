import assert from "node:assert/strict";
import { bf16ToF32, decodeF32, encodeF32, f16ToF32, f32ToBf16, f32ToF16 } from "../../../lib/io/safetensors/half.ts";

/** Value of a small binary float with `fraction` fraction bits, straight from the definition in IEEE 754. */
function valueOf(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >> (exponentBits + fractionBits) ? -1 : 1;
  const exponent = (bits >> fractionBits) & ((1 << exponentBits) - 1);
  const fraction = bits & ((1 << fractionBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === (1 << exponentBits) - 1) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

const formats = [
  { name: "f16", exponentBits: 5, fractionBits: 10, widen: f16ToF32, narrow: f32ToF16 },
  { name: "bf16", exponentBits: 8, fractionBits: 7, widen: bf16ToF32, narrow: f32ToBf16 },
];

for (const { name, exponentBits, fractionBits, widen, narrow } of formats) {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);

  Deno.test(`${name}: all 65536 patterns widen to the value IEEE 754 defines`, () => {
    const wide = widen(all);
    for (let i = 0; i < 65536; i++) {
      const expected = valueOf(i, exponentBits, fractionBits);
      assert.ok(Object.is(wide[i], expected), `pattern ${i}: ${wide[i]} instead of ${expected}`);
    }
  });

  Deno.test(`${name}: all 65536 patterns survive a round trip, NaN stays NaN`, () => {
    const back = narrow(widen(all));
    for (let i = 0; i < 65536; i++) {
      const isNaNPattern = Number.isNaN(valueOf(i, exponentBits, fractionBits));
      if (isNaNPattern) assert.ok(Number.isNaN(valueOf(back[i]!, exponentBits, fractionBits)), `pattern ${i}`);
      else assert.equal(back[i], i);
    }
  });

  Deno.test(`${name}: rounds to nearest, ties to even, at every midpoint and one float32 beside it`, () => {
    const infinity = ((1 << exponentBits) - 1) << fractionBits;
    // Beyond the largest finite value the next "value" is the one an unbounded exponent would give.
    const value = (i: number) =>
      i === infinity ? 2 ** (1 << (exponentBits - 1)) : valueOf(i, exponentBits, fractionBits);
    const inputs = new Float32Array(infinity * 3), expected = new Uint16Array(infinity * 3);
    const word = new Uint32Array(1), float = new Float32Array(word.buffer);
    for (let i = 0; i < infinity; i++) {
      float[0] = (value(i) + value(i + 1)) / 2;
      const middle = word[0]!;
      [middle - 1, middle, middle + 1].forEach((pattern, k) => {
        word[0] = pattern;
        inputs[3 * i + k] = float[0]!;
        expected[3 * i + k] = k === 0 ? i : k === 2 ? i + 1 : i + (i & 1);
      });
    }
    // The first difference alone: the message of a comparison of so many numbers takes minutes and gigabytes.
    const negative = narrow(inputs.map((x) => -x));
    for (const [found, sign] of [[narrow(inputs), 0], [negative, 0x8000]] as const) {
      const wrong = expected.findIndex((pattern, i) => found[i] !== (pattern | sign));
      assert.equal(wrong, -1, `${sign ? -inputs[wrong]! : inputs[wrong]} becomes pattern ${found[wrong]}`);
    }
  });
}

Deno.test("bf16: a NaN whose payload sits only in the lower half stays a NaN", () => {
  const values = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff).buffer);
  assert.deepEqual([...f32ToBf16(values)], [0x7fc0, 0xffc0, 0x7fff]);
});

Deno.test("8 bits: e5m2 is the upper half of f16, e4m3 has the values of the OCP specification", () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const halves = f16ToF32(Uint16Array.from(all, (bits) => bits << 8));
  assert.deepEqual([...decodeF32(all, "f8_e5m2")], [...halves]);
  const values = decodeF32(all, "f8_e4m3");
  // Table 2 of the specification: zero, smallest and largest subnormal and normal number, one, NaN, no infinity.
  const table = { 0: 0, 1: 2 ** -9, 7: 0.875 * 2 ** -6, 8: 2 ** -6, 0x38: 1, 0x7e: 448, 0x7f: NaN };
  for (const [bits, value] of Object.entries(table)) {
    assert.equal(values[Number(bits)], value);
    assert.equal(values[Number(bits) + 128], -value);
  }
  // Neighbours differ by one unit of the last place, so all others follow.
  for (let bits = 1; bits < 0x7f; bits++) {
    const unit = 2 ** (Math.max(1, bits >> 3) - 10);
    assert.equal(values[bits]! - values[bits - 1]!, bits % 8 === 0 ? 2 ** (Math.max(1, (bits - 1) >> 3) - 10) : unit);
  }
});

Deno.test("decodeF32: bytes at odd addresses, all types", () => {
  const doubles = new Uint8Array(Float64Array.of(1.5, -2, 1 + 2 ** -24, 1 + 3 * 2 ** -24).buffer);
  const shifted = new Uint8Array(doubles.length + 1);
  shifted.set(doubles, 1);
  assert.deepEqual([...decodeF32(shifted.subarray(1), "f64")], [1.5, -2, 1, 1 + 2 ** -22]);
  const values = Float32Array.of(0.5, -3, 65504, -0);
  for (const type of ["f32", "f16", "bf16"] as const) {
    const bytes = encodeF32(values, type);
    const odd = new Uint8Array(bytes.length + 1);
    odd.set(bytes, 1);
    const expected = type === "bf16" ? [0.5, -3, 65536, -0] : [...values];
    assert.deepEqual([...decodeF32(odd.subarray(1), type)], expected);
    assert.deepEqual([...decodeF32(Buffer.from(odd.buffer, 1), type)], expected);
  }
  assert.throws(() => decodeF32(new Uint8Array(3), "f16"), RangeError);
});

Deno.test("decodeF32 and encodeF32 share the memory of aligned float32", () => {
  const values = Float32Array.of(1, 2);
  assert.equal(encodeF32(values, "f32").buffer, values.buffer);
  assert.equal(decodeF32(new Uint8Array(values.buffer), "f32").buffer, values.buffer);
});

Deno.test("conversions refuse an output that is too short", () => {
  for (const { widen, narrow } of formats) {
    assert.throws(() => widen(new Uint16Array(2), new Float32Array(1)), RangeError);
    assert.throws(() => narrow(new Float32Array(2), new Uint16Array(1)), RangeError);
  }
});
