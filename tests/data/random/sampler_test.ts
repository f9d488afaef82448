import assert from "node:assert/strict";
import { createSampler, type SamplerOptions } from "../../../lib/data/random/sampler.ts";
import { permutation } from "../../../lib/data/random/random.ts";

const base: SamplerOptions = { samples: 10, batchSize: 2, accumulation: 2, seed: 42 };
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** The original trainer's loop over one rank, written as a loop (`train` of finetune/trainer.py in THUDM/CogVideo). */
function originalLoop(options: SamplerOptions, epochs: number) {
  const { samples, batchSize, accumulation, seed } = options;
  const rows: { indices: number[]; sync: boolean }[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = [...permutation(seed, epoch, samples)];
    let accumulated = 0;
    while (order.length > 0) {
      const indices = order.splice(0, batchSize);
      accumulated++;
      const sync = accumulated % accumulation === 0 || order.length === 0;
      rows.push({ indices, sync });
    }
  }
  return rows;
}

Deno.test("createSampler() follows the original loop: partial last batch kept, windows end with the epoch", () => {
  for (
    const [samples, batchSize, accumulation] of [[10, 2, 2], [7, 2, 3], [1, 4, 4], [12, 3, 2], [5, 1, 4], [
      70,
      4,
      1,
    ]] as const
  ) {
    const options = { samples, batchSize, accumulation, seed: 7 };
    const sampler = createSampler(options);
    const expected = originalLoop(options, 3);
    assert.equal(expected.length, 3 * sampler.microStepsPerEpoch);
    assert.equal(expected.filter(({ sync }) => sync).length, 3 * sampler.stepsPerEpoch);
    expected.forEach((row, number) => {
      const { items, sync } = sampler.microStep(number);
      assert.deepEqual({ indices: items.map((item) => item.index), sync }, row);
    });
  }
});

Deno.test("createSampler() shows every sample once per epoch, in another order each epoch", () => {
  const sampler = createSampler({ ...base, samples: 50 });
  const orders = range(3).map((epoch) => {
    const steps = range(sampler.microStepsPerEpoch).map((m) =>
      sampler.microStep(epoch * sampler.microStepsPerEpoch + m)
    );
    return steps.flatMap((step) => step.items.map((item) => item.index));
  });
  for (const order of orders) assert.deepEqual([...order].sort((a, b) => a - b), range(50));
  assert.notDeepEqual(orders[0], orders[1]);
  assert.notDeepEqual(orders[1], orders[2]);
});

Deno.test("createSampler() numbers samples without gaps over the whole run", () => {
  const sampler = createSampler({ ...base, samples: 7 });
  const numbers = range(20).flatMap((m) => sampler.microStep(m).items.map((item) => item.globalIndex));
  assert.deepEqual(numbers, range(numbers.length));
});

Deno.test("a micro-step depends on its number alone, so any resume continues exactly", () => {
  const straight = createSampler(base);
  const all = range(30).map((m) => straight.microStep(m));
  for (const start of [0, 3, 5, 17, 29]) {
    const resumed = createSampler(base);
    for (let m = start; m < 30; m++) assert.deepEqual(resumed.microStep(m), all[m]);
  }
  const backwards = createSampler(base);
  for (let m = 29; m >= 0; m--) assert.deepEqual(backwards.microStep(m), all[m]);
});

Deno.test("firstMicroStep() is the micro-step behind the one that ends the step before", () => {
  for (const samples of [1, 7, 10, 33]) {
    for (const accumulation of [1, 2, 3, 5]) {
      const sampler = createSampler({ ...base, samples, accumulation });
      let step = 0;
      for (let m = 0; m < 4 * sampler.microStepsPerEpoch; m++) {
        if (m === 0 || sampler.microStep(m - 1).sync) assert.equal(sampler.firstMicroStep(step++), m);
      }
    }
  }
});

Deno.test("createSampler() draws another order for another seed", () => {
  const order = (seed: number) =>
    range(25).flatMap((m) => createSampler({ ...base, samples: 50, seed }).microStep(m).items.map((i) => i.index));
  assert.notDeepEqual(order(1), order(2));
});

Deno.test("createSampler() refuses counts that are not positive integers", () => {
  for (const name of ["samples", "batchSize", "accumulation"]) {
    for (const value of [0, -1, 1.5, NaN]) assert.throws(() => createSampler({ ...base, [name]: value }), RangeError);
  }
  assert.throws(() => createSampler(base).microStep(-1), RangeError);
  assert.throws(() => createSampler(base).firstMicroStep(0.5), RangeError);
});

Deno.test("with buckets, every sample comes once per epoch, batches are of one bucket, and numbers have no gaps", () => {
  const buckets = [0, 1, 0, 2, 0, 1, 0, 0, 1, 0];
  for (const accumulation of [1, 2, 3]) {
    const options = { ...base, accumulation, buckets };
    const sampler = createSampler(options);
    // 6 of the first, 3 of the second and 1 of the third, two by two.
    assert.equal(sampler.microStepsPerEpoch, 3 + 2 + 1);
    assert.equal(sampler.stepsPerEpoch, Math.ceil(6 / accumulation));
    const steps = range(12).map((number) => sampler.microStep(number));
    for (const { items } of steps) assert.equal(new Set(items.map(({ index }) => buckets[index])).size, 1);
    for (const epoch of [0, 1]) {
      const items = steps.slice(6 * epoch, 6 * epoch + 6).flatMap(({ items }) => items);
      assert.deepEqual(items.map(({ index }) => index).sort((a, b) => a - b), range(10));
      assert.deepEqual(items.map(({ globalIndex }) => globalIndex), range(10).map((i) => 10 * epoch + i));
    }
    // Whoever begins anywhere goes on as if he had been there from the beginning.
    const resumed = createSampler(options);
    for (const number of [9, 2, 11, 6]) assert.deepEqual(resumed.microStep(number), steps[number]);
  }
});

Deno.test("one bucket is no bucket, and batches of one sample keep the order of the epoch", () => {
  const order = (options: Partial<SamplerOptions>) => {
    const sampler = createSampler({ ...base, ...options });
    return range(20).map((number) => sampler.microStep(number));
  };
  assert.deepEqual(order({ buckets: Array(10).fill(3) }), order({}));
  assert.deepEqual(order({ batchSize: 1, buckets: range(10).map((i) => i % 3) }), order({ batchSize: 1 }));
});
