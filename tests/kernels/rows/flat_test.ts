import assert from "node:assert/strict";
import { activationFamilies, add, addInPlace, convert, gatedGelu } from "../../../kernels/rows/flat.ts";
import { addTable, embedding, gatedFamilies } from "../../../kernels/rows/by_row.ts";
import { numbers, relativeL2, rounded, runLaunch, stored } from "../run.ts";
import { everyVariant } from "../variants.ts";

const { gelu, geluBackward, silu, siluBackward } = activationFamilies;

const DTYPES = ["f32", "f16", "bf16"] as const;
const TOLERANCE = { f32: 2e-6, f16: 1e-3, bf16: 6e-3 };

const K = Math.sqrt(2 / Math.PI);
const geluOf = (x: number) => 0.5 * x * (1 + Math.tanh(K * (x + 0.044715 * x ** 3)));
const geluSlope = (x: number) => {
  const t = Math.tanh(K * (x + 0.044715 * x ** 3));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * K * (1 + 0.134145 * x * x);
};
const siluOf = (x: number) => x / (1 + Math.exp(-x));
const siluSlope = (x: number) => (1 + x / (1 + Math.exp(x))) / (1 + Math.exp(-x));

/** Not a multiple of a workgroup's share. */
const LENGTH = 1300;

Deno.test("gelu and silu and their gradients match float64", async () => {
  for (const dtype of DTYPES) {
    const x = stored(numbers(LENGTH, 1).map((v) => 12 * v), dtype);
    const g = stored(numbers(LENGTH, 2), dtype);
    const shape = { elements: LENGTH };
    for (
      const [forward, backward, f, slope] of [
        [gelu, geluBackward, geluOf, geluSlope],
        [silu, siluBackward, siluOf, siluSlope],
      ] as const
    ) {
      const [first, ...others] = await everyVariant(forward, { x: dtype, y: dtype }, shape, { x, y: LENGTH });
      assert.ok(relativeL2(first.results.y!, Float64Array.from(x, f)) < TOLERANCE[dtype]);
      const spec = { x: dtype, g: dtype, dx: dtype };
      const [back, ...othersBack] = await everyVariant(backward, spec, shape, { x, g, dx: LENGTH });
      const expected = Float64Array.from(x, (v, i) => g[i]! * slope(v));
      assert.ok(relativeL2(back.results.dx!, expected) < TOLERANCE[dtype]);
      // Spreads share out the work and change no bit of it.
      assert.ok(others.length > 0 && othersBack.length === others.length);
      for (const { name, results } of others) assert.deepEqual(results.y, first.results.y, name);
      for (const { name, results } of othersBack) assert.deepEqual(results.dx, back.results.dx, name);
    }
  }
});

Deno.test("gelu and silu of huge inputs are 0 or x, and their slopes 0 or 1", async () => {
  const x = Float32Array.of(1e4, -1e4, 1e30, -1e30, 89, -89, 60000, -60000);
  const ones = new Float32Array(8).fill(1);
  for (const [forward, backward] of [[gelu, geluBackward], [silu, siluBackward]] as const) {
    const [{ results: { y } }] = await everyVariant(forward, { x: "f32", y: "f32" }, { elements: 8 }, { x, y: 8 });
    const spec = { x: "f32", g: "f32", dx: "f32" } as const;
    const [{ results: { dx } }] = await everyVariant(backward, spec, { elements: 8 }, { x, g: ones, dx: 8 });
    x.forEach((v, i) => {
      assert.ok(Math.abs(y![i]! - Math.max(v, 0)) <= 1e-6 * Math.abs(v));
      assert.ok(Math.abs(dx![i]! - (v > 0 ? 1 : 0)) <= 1e-6);
    });
  }
});

Deno.test("gated gelu is gelu(a) * b", async () => {
  for (const dtype of DTYPES) {
    const a = stored(numbers(LENGTH, 1).map((v) => 8 * v), dtype);
    const b = stored(numbers(LENGTH, 2), dtype);
    const launch = gatedGelu({ x: dtype, y: dtype }, { elements: LENGTH });
    const [, , y] = await runLaunch(launch, [a, b, LENGTH]);
    assert.ok(relativeL2(y!, Float64Array.from(a, (v, i) => geluOf(v) * b[i]!)) < TOLERANCE[dtype]);
  }
});

Deno.test("add and add in place round once to their storage type", async () => {
  for (const dtype of DTYPES) {
    const a = stored(numbers(LENGTH, 1), dtype);
    const b = numbers(LENGTH, 2);
    const sum = Float32Array.from(a, (v, i) => rounded(Math.fround(v + b[i]!), dtype));
    const shape = { elements: LENGTH };
    const [, , out] = await runLaunch(add({ a: dtype, b: "f32", out: dtype }, shape), [a, b, LENGTH]);
    assert.deepEqual(out, sum);
    const [inPlace] = await runLaunch(addInPlace({ a: dtype, b: "f32" }, shape), [a, b]);
    assert.deepEqual(inPlace, sum);
  }
});

Deno.test("conversion rounds to nearest even and keeps infinity and NaN", async () => {
  const x = numbers(LENGTH, 1).map((v) => 100 * v);
  x.set([1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, Infinity, -Infinity, NaN, -0, 3e38]);
  const [, bf16] = await runLaunch(convert({ x: "f32", y: "bf16" }, { elements: LENGTH }), [x, LENGTH]);
  assert.deepEqual(bf16, stored(x, "bf16").map((v, i) => (i === 5 ? NaN : v)));
  assert.equal(bf16![0], 1);
  assert.equal(bf16![1], 1 + 2 ** -6);
  const finite = x.map((v) => (Math.abs(v) < 60000 ? v : 0));
  const [, f16] = await runLaunch(convert({ x: "f32", y: "f16" }, { elements: LENGTH }), [finite, LENGTH]);
  assert.ok(relativeL2(f16!, finite) < 3e-4);
  const [, back] = await runLaunch(convert({ x: "f16", y: "f32" }, { elements: LENGTH }), [f16!, LENGTH]);
  assert.deepEqual(back, f16);
});

Deno.test("the gated residual picks the gate of batch element and segment", async () => {
  for (const dtype of DTYPES) {
    const shape = {
      rows: 22,
      sequence: 11,
      textRows: 3,
      width: 68,
      stride: 6 * 68,
      gateText: 5 * 68,
      gateVideo: 2 * 68,
    };
    const size = 22 * 68;
    const x = stored(numbers(size, 1), dtype);
    const y = stored(numbers(size, 2), dtype);
    const gate = numbers(2 * shape.stride, 3);
    const gateOf = (i: number) => {
      const row = Math.floor(i / 68);
      const chunk = row % 11 < 3 ? shape.gateText : shape.gateVideo;
      return gate[Math.floor(row / 11) * shape.stride + chunk + i % 68]!;
    };
    const expected = Float64Array.from(x, (v, i) => v + gateOf(i) * y[i]!);
    const spec = { x: dtype, y: dtype, out: dtype };
    const { forward, backward } = gatedFamilies;
    const [first, ...others] = await everyVariant(forward, spec, shape, { x, gate, y, out: size });
    assert.ok(relativeL2(first.results.out!, expected) < TOLERANCE[dtype]);
    const given = { gate, g: y, dy: size };
    const [back, ...othersBack] = await everyVariant(backward, { g: dtype, dy: dtype }, shape, given);
    assert.ok(relativeL2(back.results.dy!, Float64Array.from(y, (v, i) => gateOf(i) * v)) < TOLERANCE[dtype]);
    assert.ok(others.length > 0 && othersBack.length === others.length);
    for (const { name, results } of others) assert.deepEqual(results.out, first.results.out, name);
    for (const { name, results } of othersBack) assert.deepEqual(results.dy, back.results.dy, name);
  }
});

Deno.test("a positional table is added to every batch element", async () => {
  const [sequence, width] = [7, 12];
  const x = numbers(3 * sequence * width, 1);
  const table = stored(numbers(sequence * width, 2), "bf16");
  const launch = addTable({ x: "f32", table: "bf16" }, { rows: 3 * sequence, sequence, width });
  const [y] = await runLaunch(launch, [x, table]);
  assert.deepEqual(y, x.map((v, i) => v + table[i % table.length]!));
});

Deno.test("embedding copies the rows of its ids and stays inside the table", async () => {
  const [vocabulary, width] = [9, 20];
  const table = stored(numbers(vocabulary * width, 1), "f16");
  const ids = Uint32Array.of(3, 0, 8, 8, 100);
  const launch = embedding({ table: "f16", y: "f32" }, { rows: ids.length, width, vocabulary });
  const [, , y] = await runLaunch(launch, [ids, table, ids.length * width]);
  y!.forEach((v, i) => {
    const id = Math.min(ids[Math.floor(i / width)]!, vocabulary - 1);
    assert.equal(v, table[id * width + i % width]);
  });
});
