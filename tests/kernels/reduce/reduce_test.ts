import assert from "node:assert/strict";
import { columnFamilies, columnSums, finishSum, squareSlots, sumOfSquares } from "../../../kernels/reduce/sums.ts";
import { magnitudeFamily } from "../../../kernels/rows/dora.ts";
import { plainTarget } from "../../../kernels/core/kernel.ts";
import { numbers, relativeL2, runLaunch, stored } from "../run.ts";
import { targets } from "../targets.ts";
import { everyVariant, type VariantRun } from "../variants.ts";

/** Rows loaded ahead are added in the same order; longer parts in another. */
function checkOrder(found: readonly VariantRun[]): void {
  const bits = new Map(found.map(({ name, results }) => [name, results.out]));
  assert.deepEqual(bits.get("eight ahead"), bits.get("one by one"));
  assert.equal(bits.size, 3);
}

Deno.test("column sums over rows, written or accumulated, match float64", async () => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const [rows, width] of [[301, 36], [1, 4], [17, 260]] as const) {
      const shape = { rows, width };
      const g = stored(numbers(rows * width, 1), dtype);
      const expected = new Float64Array(width);
      g.forEach((v, i) => expected[i % width]! += v);
      const start = numbers(width, 2);
      for (const accumulate of [false, true]) {
        const spec = { g: dtype, accumulate };
        const found = await everyVariant(columnFamilies.columnSums, spec, shape, { g, out: start });
        const wanted = accumulate ? expected.map((v, i) => v + start[i]!) : expected;
        for (const { name, results } of found) assert.ok(relativeL2(results.out!, wanted) < 1e-6, name);
        checkOrder(found);
      }
    }
  }
});

Deno.test("gate sums go to the chunks of their batch element and segment and nowhere else", async () => {
  for (const dtype of ["f32", "bf16"] as const) {
    const shape = { batch: 2, sequence: 70, textRows: 19, width: 20, stride: 120, gateText: 100, gateVideo: 40 };
    const size = 2 * 70 * 20;
    const g = stored(numbers(size, 1), dtype);
    const y = stored(numbers(size, 2), dtype);
    const start = numbers(240, 3);
    const expected = Float64Array.from(start);
    for (const b of [0, 1]) for (const chunk of [100, 40]) expected.fill(0, b * 120 + chunk, b * 120 + chunk + 20);
    g.forEach((v, i) => {
      const row = Math.floor(i / 20);
      const chunk = row % 70 < 19 ? 100 : 40;
      expected[Math.floor(row / 70) * 120 + chunk + i % 20]! += v * y[i]!;
    });
    const found = await everyVariant(columnFamilies.gateSums, { g: dtype, y: dtype }, shape, { g, y, out: start });
    for (const { name, results } of found) assert.ok(relativeL2(results.out!, expected) < 1e-6, name);
    checkOrder(found);
  }
});

Deno.test("the gradient of DoRA's magnitudes matches float64 in every way", async () => {
  const shape = { rows: 150, width: 20 };
  const [g, u] = [stored(numbers(3000, 1), "bf16"), stored(numbers(3000, 2), "bf16")];
  const [norms, start] = [numbers(20, 3).map((v) => 1 + v), numbers(20, 4)];
  const expected = Float64Array.from(start);
  g.forEach((v, i) => expected[i % 20]! += v * u[i]! / norms[i % 20]!);
  const found = await everyVariant(magnitudeFamily, { g: "bf16", u: "bf16" }, shape, { g, u, norms, out: start });
  for (const { name, results } of found) assert.ok(relativeL2(results.out!, expected) < 1e-6, name);
  checkOrder(found);
});

Deno.test("cards load eight rows ahead unmeasured, software drivers one by one", () => {
  const chosen = (subgroups: number) => {
    const work = columnSums(plainTarget(subgroups), { g: "f32", accumulate: true }, { rows: 64, width: 4 });
    return work.launches[0]!.launch.problem!.chosen;
  };
  assert.deepEqual([0, 8, 32].map(chosen), ["one by one", "one by one", "eight ahead"]);
});

Deno.test("longer parts are fewer", () => {
  const { variants } = columnFamilies.columnSums;
  const scratch = variants.map(({ work }) => {
    return work(plainTarget(32), { g: "f32", accumulate: true }, { rows: 17776, width: 3072 }).scratch!.partials;
  });
  // 131,072 threads over 768 vectors are 171 parts, a quarter of them 43; two segments of each.
  assert.deepEqual(scratch, [171, 171, 43].map((parts) => 2 * parts * 3072));
});

Deno.test("sum of squares of several buffers through one list of slots matches float64", async () => {
  for (const target of await targets()) {
    const sizes = [4, 16384, 16388, 50000];
    const slots = sizes.map(squareSlots);
    assert.deepEqual(slots, [1, 1, 2, 4]);
    const total = slots.reduce((sum, n) => sum + n, 0);
    let partials = new Float32Array(total * 4);
    let slot = 0;
    let expected = 0;
    for (const [i, elements] of sizes.entries()) {
      const x = numbers(elements, i + 1);
      expected += x.reduce((sum, v) => sum + v * v, 0);
      partials = (await runLaunch(sumOfSquares(target, { x: "f32" }, { elements, slot }), [x, partials]))[1]!;
      slot += slots[i]!;
    }
    const [, out] = await runLaunch(finishSum(target, { slots: total, scale: 2 }), [partials, 4]);
    assert.ok(Math.abs(out![0]! - 2 * expected) < 1e-6 * expected);
  }
});

Deno.test("a sum of squares has the same bits in every run, with and without subgroup operations", async () => {
  const x = numbers(40000, 3);
  const results: Float32Array[] = [];
  for (const target of await targets()) {
    const launch = sumOfSquares(target, { x: "f32" }, { elements: x.length, slot: 0 });
    for (let run = 0; run < 2; run++) results.push((await runLaunch(launch, [x, squareSlots(x.length) * 4]))[1]!);
  }
  for (const result of results) assert.deepEqual(result, results[0]);
});
