import assert from "node:assert/strict";
import { createSampler, type SamplerOptions } from "../../../lib/data/random/sampler.ts";
import { permutation } from "../../../lib/data/random/random.ts";

const base: SamplerOptions = { samples: 10, batchSize: 2, accumulation: 2, seed: 42 };
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** The original trainer's loop over one rank, written as a loop (training facts, section 5.1). */
function originalLoop(options: SamplerOptions, epochs: number) {
  const { samples, batchSize, accumulation, seed } = options;
  const rows: { indices: number[]; step: number; sync: boolean; weight: number }[] = [];
  let step = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = [...permutation(seed, epoch, samples)];
    let accumulated = 0;
    while (order.length > 0) {
      const indices = order.splice(0, batchSize);
      accumulated++;
      const sync = accumulated % accumulation === 0 || order.length === 0;
      rows.push({ indices, step, sync, weight: 1 / indices.length / accumulation });
      if (sync) step++;
    }
  }
  return rows;
}

Deno.test("createSampler() follows the original loop: partial last batch kept, windows end with the epoch", () => {
  for (
    const [samples, batchSize, accumulation] of [[10, 2, 2], [7, 2, 3], [1, 4, 4], [12, 3, 2], [5, 1, 4], [70, 4, 1]]
  ) {
    const options = { samples, batchSize, accumulation, seed: 7 };
    const sampler = createSampler(options);
    const expected = originalLoop(options, 3);
    assert.equal(expected.length, 3 * sampler.microStepsPerEpoch);
    assert.equal(expected.at(-1)!.step + 1, 3 * sampler.stepsPerEpoch);
    expected.forEach((row, number) => {
      const { items, step, sync, weight } = sampler.microStep(number);
      assert.deepEqual({ indices: items.map((item) => item.index), step, sync }, {
        indices: row.indices,
        step: row.step,
        sync: row.sync,
      });
      assert.ok(Math.abs(weight - row.weight) < 1e-15);
    });
  }
});

Deno.test("createSampler() shows every sample once per epoch, in another order each epoch", () => {
  const sampler = createSampler({ ...base, samples: 50 });
  const orders = range(3).map((epoch) => {
    const steps = range(sampler.microStepsPerEpoch).map((m) =>
      sampler.microStep(epoch * sampler.microStepsPerEpoch + m)
    );
    assert.ok(steps.every((step) => step.epoch === epoch));
    return steps.flatMap((step) => step.items.map((item) => item.index));
  });
  for (const order of orders) assert.deepEqual([...order].sort((a, b) => a - b), range(50));
  assert.notDeepEqual(orders[0], orders[1]);
  assert.notDeepEqual(orders[1], orders[2]);
});

Deno.test("createSampler() numbers samples without gaps over the whole run", () => {
  const sampler = createSampler({ ...base, samples: 7, world: 2, batchSize: 1 });
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

Deno.test("firstMicroStep() is where an optimizer step begins", () => {
  for (const samples of [1, 7, 10, 33]) {
    for (const accumulation of [1, 2, 3, 5]) {
      const sampler = createSampler({ ...base, samples, accumulation });
      for (let m = 0; m < 4 * sampler.microStepsPerEpoch; m++) {
        const { step, position } = sampler.microStep(m);
        assert.equal(sampler.firstMicroStep(step), m - position);
      }
    }
  }
});

Deno.test("ranks share each micro-step without changing the global order", () => {
  const one = createSampler({ samples: 22, batchSize: 4, accumulation: 2, seed: 3 });
  for (const world of [2, 4]) {
    const many = createSampler({ samples: 22, batchSize: 4 / world, accumulation: 2, seed: 3, world });
    for (let m = 0; m < 30; m++) {
      const step = many.microStep(m);
      assert.deepEqual(step, one.microStep(m));
      assert.deepEqual(range(world).flatMap((rank) => many.share(step, rank)), step.items);
      assert.ok(range(world).every((rank) => many.share(step, rank).length <= 4 / world));
    }
    assert.throws(() => many.share(many.microStep(0), world), RangeError);
  }
});

Deno.test("ranks and accumulation trade places: full windows hold the same samples", () => {
  const ranks = createSampler({ samples: 24, batchSize: 1, accumulation: 1, seed: 9, world: 4 });
  const accumulated = createSampler({ samples: 24, batchSize: 1, accumulation: 4, seed: 9 });
  for (let step = 0; step < 12; step++) {
    const window = range(4).flatMap((i) => accumulated.microStep(accumulated.firstMicroStep(step) + i).items);
    const together = ranks.microStep(ranks.firstMicroStep(step));
    assert.deepEqual(together.items, window);
    assert.equal(together.weight, accumulated.microStep(accumulated.firstMicroStep(step)).weight);
  }
});

Deno.test("createSampler() keeps the dataset's order without shuffling and depends on the seed with it", () => {
  const plain = createSampler({ ...base, shuffle: false });
  assert.deepEqual(range(5).flatMap((m) => plain.microStep(m).items.map((item) => item.index)), range(10));
  const order = (seed: number) =>
    range(25).flatMap((m) => createSampler({ ...base, samples: 50, seed }).microStep(m).items.map((i) => i.index));
  assert.notDeepEqual(order(1), order(2));
});

Deno.test("createSampler() refuses counts that are not positive integers", () => {
  for (const name of ["samples", "batchSize", "accumulation", "world"]) {
    for (const value of [0, -1, 1.5, NaN]) assert.throws(() => createSampler({ ...base, [name]: value }), RangeError);
  }
  assert.throws(() => createSampler(base).microStep(-1), RangeError);
  assert.throws(() => createSampler(base).firstMicroStep(0.5), RangeError);
});
