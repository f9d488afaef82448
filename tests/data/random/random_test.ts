import assert from "node:assert/strict";
import { philox } from "../../../lib/data/random/philox.ts";
import { permutation, purposes, RandomStream } from "../../../lib/data/random/random.ts";
import type { StreamKey } from "../../../lib/data/random/random.ts";

const base: StreamKey = { seed: 42, purpose: "noise", step: 7, sample: 3 };
const stream = (change: Partial<StreamKey> = {}) => new RandomStream({ ...base, ...change });

/** Philox by its definition, in BigInt. */
function slowPhilox(key: number[], counter: number[]): number[] {
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const a = 0xd2511f53n * c0, b = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(b >> 32n) ^ c1 ^ k0, b & mask, (a >> 32n) ^ c3 ^ k1, a & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

function mean(values: ArrayLike<number>, power = 1): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! ** power;
  return sum / values.length;
}

function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum / a.length;
}

Deno.test("philox: the known answers that Random123 publishes for philox4x32-10", () => {
  const out = new Uint32Array(4);
  const cases: [number[], number[], number[]][] = [
    [[0, 0], [0, 0, 0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    [
      [0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0xa4093822, 0x299f31d0],
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [[k0, k1], [c0, c1, c2, c3], expected] of cases) {
    philox(k0!, k1!, c0!, c1!, c2!, c3!, out);
    assert.deepEqual([...out], expected);
  }
});

Deno.test("philox: equals the definition in exact arithmetic on 2000 counters and keys", () => {
  const out = new Uint32Array(4);
  let words = [1, 2, 3, 4];
  for (let i = 0; i < 2000; i++) {
    const key = [words[0]! ^ i, words[3]!].map((x) => x >>> 0);
    philox(key[0]!, key[1]!, words[0]!, words[1]!, words[2]!, words[3]!, out);
    words = slowPhilox(key, words);
    assert.deepEqual([...out], words);
  }
});

Deno.test("RandomStream: words are philox blocks of (block, purpose, sample, step) under the seed", () => {
  const seed = 2 ** 40 + 5;
  const random = stream({ seed });
  const words = Array.from({ length: 12 }, () => random.uint32());
  const expected = [0, 1, 2].flatMap((block) => slowPhilox([5, 2 ** 8], [block, purposes.noise, 3, 7]));
  assert.deepEqual(words, expected);
});

Deno.test("RandomStream: depends on the key alone, and on all of it", () => {
  const draw = (change: Partial<StreamKey>) => [...stream(change).fillNormals(new Float32Array(8))].join();
  assert.equal(draw({}), draw({}));
  const changes: Partial<StreamKey>[] = [
    { seed: 43 },
    { seed: 42 + 2 ** 32 },
    { step: 8 },
    { sample: 4 },
    { step: 3, sample: 7 },
    { purpose: "timestep" },
  ];
  const all = new Set([draw({}), ...changes.map(draw)]);
  assert.equal(all.size, changes.length + 1);
  assert.equal(new Set(Object.values(purposes)).size, Object.keys(purposes).length);
});

Deno.test("RandomStream: normals are Box-Muller of the words, to 1e-11 in float64 and rounded in float32", () => {
  const count = 40_000;
  const wide = stream().fillNormals(new Float64Array(count)), narrow = stream().fillNormals(new Float32Array(count));
  const random = stream();
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log((random.uint32() + 0.5) / 2 ** 32));
    const angle = 2 * Math.PI * random.uint32() / 2 ** 32;
    for (const [j, expected] of [radius * Math.cos(angle), radius * Math.sin(angle)].entries()) {
      assert.ok(Math.abs(wide[i + j]! - expected) < 1e-11, `${wide[i + j]} instead of ${expected}`);
      assert.equal(narrow[i + j], Math.fround(wide[i + j]!));
    }
  }
});

Deno.test("RandomStream: a shorter fill is a prefix of a longer one, a second fill continues", () => {
  const long = stream().fillNormals(new Float32Array(16));
  for (const length of [0, 1, 2, 3, 4, 5, 7]) {
    assert.deepEqual(stream().fillNormals(new Float32Array(length)), long.slice(0, length));
  }
  const random = stream();
  random.uint32();
  assert.deepEqual(random.fillNormals(new Float32Array(4)), long.slice(4, 8));
  assert.deepEqual(random.fillNormals(new Float32Array(3)), long.slice(8, 11));
  assert.deepEqual(random.fillNormals(new Float32Array(4)), long.slice(12, 16));
});

// Bounds are 5 standard errors: with n numbers the mean has error 1/sqrt(n), the k-th moment sqrt(var(z^k)/n).
Deno.test("RandomStream: a million normals have the moments and tails of the normal distribution", () => {
  const n = 1_000_000;
  const z = stream().fillNormals(new Float32Array(n));
  const bound = (variance: number) => 5 * Math.sqrt(variance / n);
  assert.ok(Math.abs(mean(z)) < bound(1));
  assert.ok(Math.abs(mean(z, 2) - 1) < bound(2));
  assert.ok(Math.abs(mean(z, 3)) < bound(15));
  assert.ok(Math.abs(mean(z, 4) - 3) < bound(96));
  // P(|z| > 1), P(|z| > 2), P(|z| > 3), P(|z| > 4) from tables of the normal distribution.
  for (const [limit, p] of [[1, 0.3173105079], [2, 0.0455002639], [3, 0.0026997961], [4, 0.0000633425]] as const) {
    const share = z.reduce((count, x) => count + Number(Math.abs(x) > limit), 0) / n;
    assert.ok(Math.abs(share - p) < bound(p), `${share} beyond ${limit}`);
  }
  assert.ok(z.every((x) => Math.abs(x) <= 6.77));
});

Deno.test("RandomStream: neighbouring seeds, steps, samples, purposes and numbers are uncorrelated", () => {
  const n = 200_000;
  const z = stream().fillNormals(new Float32Array(n));
  const bound = 5 / Math.sqrt(n);
  const changes: Partial<StreamKey>[] = [{ seed: 43 }, { step: 8 }, { sample: 4 }, { purpose: "posterior" }];
  for (const change of changes) {
    const other = stream(change).fillNormals(new Float32Array(n));
    assert.ok(Math.abs(correlation(z, other)) < bound, JSON.stringify(change));
  }
  for (const lag of [1, 2, 3, 4]) assert.ok(Math.abs(correlation(z.subarray(0, n - lag), z.subarray(lag))) < bound);
  // The same place in many streams, as a batch of first numbers has it.
  const first = Float32Array.from({ length: 20_000 }, (_, sample) => {
    return stream({ sample }).fillNormals(new Float32Array(1))[0]!;
  });
  assert.ok(Math.abs(mean(first)) < 5 / Math.sqrt(first.length));
  assert.ok(Math.abs(mean(first, 2) - 1) < 5 * Math.sqrt(2 / first.length));
  assert.ok(Math.abs(correlation(first.subarray(1), first.subarray(0, -1))) < 5 / Math.sqrt(first.length));
});

Deno.test("RandomStream: uniform numbers and integers fill their ranges evenly", () => {
  const random = stream(), n = 300_000;
  const uniforms = Float64Array.from({ length: n }, () => random.uniform());
  assert.ok(uniforms.every((x) => x >= 0 && x < 1));
  assert.ok(Math.abs(mean(uniforms) - 1 / 2) < 5 * Math.sqrt(1 / 12 / n));
  assert.ok(Math.abs(mean(uniforms, 2) - 1 / 3) < 5 * Math.sqrt(4 / 45 / n));
  for (const bound of [1, 2, 7, 1000]) {
    const counts = new Array(bound).fill(0);
    for (let i = 0; i < n; i++) counts[random.integer(bound)]++;
    const expected = n / bound;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // Mean bound - 1, variance twice that.
    assert.ok(Math.abs(chiSquare - (bound - 1)) <= 5 * Math.sqrt(2 * (bound - 1)), `${chiSquare} for ${bound}`);
  }
  // Without rejection a bound of 3 * 2^30 would give results below 2^30 half of the time instead of a third.
  let low = 0;
  for (let i = 0; i < n; i++) low += Number(random.integer(3 * 2 ** 30) < 2 ** 30);
  assert.ok(Math.abs(low / n - 1 / 3) < 5 * Math.sqrt(2 / 9 / n));
});

Deno.test("permutation: every index once, another order per seed and epoch, all orders equally likely", () => {
  const order = permutation(1, 0, 1000);
  assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i));
  assert.deepEqual(permutation(1, 0, 1000), order);
  assert.notDeepEqual(permutation(1, 1, 1000), order);
  assert.notDeepEqual(permutation(2, 0, 1000), order);
  assert.deepEqual([...permutation(1, 0, 0), ...permutation(1, 0, 1)], [0]);
  const counts = new Map<string, number>(), n = 24_000;
  for (let epoch = 0; epoch < n; epoch++) {
    const key = permutation(9, epoch, 4).join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  assert.equal(counts.size, 24);
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - n / 24) ** 2 / (n / 24), 0);
  assert.ok(Math.abs(chiSquare - 23) < 5 * Math.sqrt(2 * 23), String(chiSquare));
});

Deno.test("RandomStream: keys and bounds out of range are refused", () => {
  for (const seed of [-1, 0.5, NaN, 2 ** 53]) assert.throws(() => stream({ seed }), RangeError);
  for (const index of [-1, 0.5, 2 ** 32]) {
    assert.throws(() => stream({ step: index }), RangeError);
    assert.throws(() => stream({ sample: index }), RangeError);
  }
  for (const bound of [0, -1, 1.5, 2 ** 32 + 1]) assert.throws(() => stream().integer(bound), RangeError);
  assert.equal(typeof stream({ seed: 2 ** 53 - 1, step: 2 ** 32 - 1, sample: 2 ** 32 - 1 }).integer(2 ** 32), "number");
});
