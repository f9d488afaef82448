/** Dropout against masks drawn here: which elements stay, how often, and that layers and keys draw their own. */
import assert from "node:assert/strict";
import { dropout } from "../../../kernels/rows/dropout.ts";
import { numbers, runLaunch, stored } from "../run.ts";
import { dropMask } from "./drop_mask.ts";

const ones = (length: number) => new Float32Array(length).fill(1);

async function mask(elements: number, layer: number, rate: number, key: readonly number[], first = 0) {
  const launch = dropout({ x: "f32", y: "f32", accumulate: false }, { elements, first, layer, rate });
  return (await runLaunch(launch, [ones(elements), Uint32Array.from([...key, 0, 0]), elements]))[2]!;
}

for (const dtype of ["f32", "bf16"] as const) {
  for (const accumulate of [false, true]) {
    Deno.test(`dropout of ${dtype}${accumulate ? " added to what is there" : ""}`, async () => {
      const shape = { elements: 4 * 1500, first: 64, layer: 5, rate: 0.3 };
      const [x, y] = [stored(numbers(shape.elements), dtype), stored(numbers(shape.elements, 2), dtype)];
      const key = [0xdeadbeef, 4_000_000_000] as const;
      const launch = dropout({ x: dtype, y: dtype, accumulate }, shape);
      const out = (await runLaunch(launch, [x, Uint32Array.of(...key, 0, 0), y]))[2]!;
      const keep = dropMask(shape.elements, shape, key);
      const expected = Float32Array.from(x, (value, i) => (accumulate ? y[i]! : 0) + (keep[i]! ? value / 0.7 : 0));
      const rest = stored(expected, dtype).map((value, i) => Math.abs(value - out[i]!));
      assert.ok(Math.max(...rest) <= (dtype === "f32" ? 2e-7 : 2 ** -8), `${Math.max(...rest)}`);
      assert.ok(out.every((value, i) => keep[i]! || value === (accumulate ? y[i] : 0)));
    });
  }
}

Deno.test("as many elements are dropped as asked, others in every layer and micro-batch", async () => {
  const elements = 40_000;
  const masks = await Promise.all(
    ([[0, [7, 0]], [1, [7, 0]], [0, [7, 1]], [0, [8, 0]]] as const).map(([layer, key]) =>
      mask(elements, layer, 0.25, key)
    ),
  );
  for (const [i, own] of masks.entries()) {
    const share = own.filter((value) => value === 0).length / elements;
    assert.ok(Math.abs(share - 0.25) < 4 * Math.sqrt(0.25 * 0.75 / elements), `${share}`);
    for (const other of masks.slice(i + 1)) {
      // Independent masks drop a place together once in 16.
      const both = own.filter((value, at) => value === 0 && other[at] === 0).length / elements;
      assert.ok(Math.abs(both - 1 / 16) < 4 * Math.sqrt(15 / 256 / elements), `${both}`);
    }
  }
});

Deno.test("a part of a tensor draws what the whole draws there", async () => {
  const whole = await mask(800, 3, 0.5, [1, 2]);
  assert.deepEqual(await mask(400, 3, 0.5, [1, 2], 400), whole.slice(400));
});
