/** Both roundings bit by bit where the update is exact, the whole update against float64, and the mean of random roundings. */
import assert from "node:assert/strict";
import { adamState } from "../../../kernels/optimizer/adam.ts";
import { adamBf16, type Bf16Rounding, drawKey } from "../../../kernels/optimizer/adam_bf16.ts";
import { numbers, relativeL2, rounded, runLaunch, stored } from "../run.ts";
import { draw, kahan, roundedAtRandom } from "./adam_bf16_reference.ts";

const KEEP = Float32Array.of(0, 1, 0, 0);
const ROUNDINGS: readonly Bf16Rounding[] = ["kahan", "stochastic"];
const SIZE = 5000;

/** Without memory, first moment / root of the second is the sign of the gradient: the step is `rate` itself. */
const SIGN = { beta1: 0, beta2: 0, eps: 0, weightDecay: 0 };
const rateOf = (rate: number) => Float32Array.of(rate, rate, 1, 1);

Deno.test("Kahan's sum and compensation are bit for bit those of f32 arithmetic rounded to bf16", async () => {
  const weights = stored(numbers(SIZE, 1), "bf16");
  const compensation = stored(numbers(SIZE, 2).map((value) => value / 512), "bf16");
  const gradients = numbers(SIZE, 3).map((value) => value < 0 ? -0.5 : 0.25);
  for (const kind of ["adam", "adamw"] as const) {
    const rate = Math.fround(3e-4);
    const launch = adamBf16({ kind, rounding: "kahan" }, { elements: SIZE, bucket: 0, ...SIGN });
    const results = await runLaunch(launch, [weights, gradients, SIZE, SIZE, rateOf(rate), KEEP, compensation]);
    const expected = Array.from(weights, (p, i) => kahan(p, compensation[i]!, rate * Math.sign(gradients[i]!)));
    assert.deepEqual([...results[0]!], expected.map(({ sum }) => sum));
    assert.deepEqual([...results[6]!], expected.map((both) => both.compensation));
  }
});

Deno.test("stochastic rounding is bit for bit the hash of place, update, seed and bucket", async () => {
  const weights = stored(numbers(SIZE, 1), "bf16");
  const gradients = numbers(SIZE, 3).map((value) => value < 0 ? -0.5 : 0.25);
  const rate = Math.fround(3e-4);
  const updated: number[][] = [];
  for (const [seed, step, bucket] of [[42, 1, 0], [42, 2, 0], [0xffffffff, 70000, 3]] as const) {
    const launch = adamBf16({ kind: "adamw", rounding: "stochastic" }, { elements: SIZE, bucket, ...SIGN });
    const key = drawKey({ seed, step });
    const [actual] = await runLaunch(launch, [weights, gradients, SIZE, SIZE, rateOf(rate), KEEP, key]);
    const expected = Array.from(weights, (p, i) => {
      const word = draw([i >>> 2, step, seed, bucket])[i % 4]!;
      return roundedAtRandom(Math.fround(p - rate * Math.sign(gradients[i]!)), word);
    });
    assert.deepEqual([...actual!], expected);
    updated.push(expected);
  }
  assert.notDeepEqual(updated[0], updated[1]);
});

for (const rounding of ROUNDINGS) {
  Deno.test(`a step with ${rounding} rounding is that of float64 to one bf16 rounding`, async () => {
    const [weights, g, m, v] = [stored(numbers(SIZE, 1), "bf16"), numbers(SIZE, 2), numbers(SIZE, 3), numbers(SIZE, 4)];
    const settings = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 };
    const squares = v.map(Math.abs);
    const [learningRate, step, clip] = [1e-2, 3, 0.5];
    for (const kind of ["adam", "adamw"] as const) {
      const state = adamState({ learningRate, ...settings, step, lossScale: 1 });
      const launch = adamBf16({ kind, rounding }, { elements: SIZE, bucket: 1, ...settings });
      const extra = rounding === "kahan" ? SIZE : drawKey({ seed: 42, step });
      const results = await runLaunch(launch, [weights, g, m, squares, state, Float32Array.of(0, clip, 0, 0), extra]);
      const first: number[] = [];
      const second: number[] = [];
      weights.forEach((p, i) => {
        const gradient = g[i]! * clip + (kind === "adam" ? 0.1 * p : 0);
        first.push(0.9 * m[i]! + 0.1 * gradient);
        second.push(0.95 * squares[i]! + 0.05 * gradient ** 2);
        const root = Math.sqrt(second[i]! / (1 - 0.95 ** step)) + 1e-8;
        const decay = kind === "adamw" ? learningRate * 0.1 * p : 0;
        const expected = p - learningRate * first[i]! / (1 - 0.9 ** step) / root - decay;
        const actual = results[0]![i]! + (rounding === "kahan" ? results[6]![i]! : 0);
        // Spacing of bf16 numbers is at most 2^-7 of them; what Kahan keeps is 2^-9 of half of that.
        const bound = Math.max(Math.abs(p), Math.abs(expected)) * (rounding === "kahan" ? 2 ** -16 : 2 ** -7) + 1e-7;
        assert.ok(Math.abs(actual - expected) <= bound, `${kind} ${i}: ${actual}, expected ${expected}`);
      });
      assert.ok(relativeL2(results[2]!, first) < 1e-6 && relativeL2(results[3]!, second) < 1e-6);
    }
  });

  Deno.test(`a skipped step with ${rounding} rounding changes nothing, even with NaN gradients`, async () => {
    const extra = rounding === "kahan" ? stored(numbers(SIZE, 5), "bf16") : drawKey({ seed: 1, step: 1 });
    const before = [stored(numbers(SIZE, 1), "bf16"), numbers(SIZE, 2), numbers(SIZE, 3).map(Math.abs)] as const;
    const [p, m, v] = before;
    const control = Float32Array.of(NaN, NaN, 1, NaN);
    const shape = { elements: SIZE, bucket: 0, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 };
    const launch = adamBf16({ kind: "adamw", rounding }, shape);
    const gradients = new Float32Array(SIZE).fill(NaN);
    const results = await runLaunch(launch, [p, gradients, m, v, rateOf(0.01), control, extra]);
    assert.deepEqual([results[0], results[2], results[3], results[6]], [...before, Float32Array.from(extra)]);
  });
}

Deno.test("the mean of random roundings is exact to 5 standard deviations, and draws do not repeat", async () => {
  const size = 2 ** 18;
  const spacing = 2 ** -7;
  const part = 0.3;
  const weights = new Float32Array(size).fill(1);
  const gradients = new Float32Array(size).fill(-1);
  const chosen: Float32Array[] = [];
  for (const [seed, step, bucket] of [[42, 1, 0], [42, 2, 0], [42, 1, 1], [43, 1, 0]] as const) {
    const launch = adamBf16({ kind: "adamw", rounding: "stochastic" }, { elements: size, bucket, ...SIGN });
    const inputs = [weights, gradients, size, size, rateOf(part * spacing), KEEP, drawKey({ seed, step })];
    const [actual] = await runLaunch(launch, inputs);
    const ups = actual!.map((value) => (value - 1) / spacing);
    assert.ok(ups.every((up) => up === 0 || up === 1));
    const share = ups.reduce((sum, up) => sum + up, 0) / size;
    const deviation = Math.sqrt(part * (1 - part) / size);
    // The part cut off is known to 16 bits.
    assert.ok(Math.abs(share - part) < 5 * deviation + 2 ** -16, `${share} rounded up with ${[seed, step, bucket]}`);
    chosen.push(ups);
  }
  const both = part * part;
  for (const other of chosen.slice(1)) {
    const share = chosen[0]!.reduce((sum, up, i) => sum + up * other[i]!, 0) / size;
    assert.ok(Math.abs(share - both) < 5 * Math.sqrt(both * (1 - both) / size), `${share} rounded up twice`);
  }
});

Deno.test("numbers beyond the largest bf16 number and NaN round as they do to nearest", async () => {
  const weights = Float32Array.of(2 ** 127 * (2 - 2 ** -7), -(2 ** 127) * (2 - 2 ** -7), 1, 0);
  const gradients = Float32Array.of(-1, 1, NaN, 0);
  const shape = { elements: 4, bucket: 0, ...SIGN, eps: 1e-30 };
  const launch = adamBf16({ kind: "adamw", rounding: "stochastic" }, shape);
  const [actual] = await runLaunch(launch, [
    weights,
    gradients,
    4,
    4,
    rateOf(3e38),
    KEEP,
    drawKey({ seed: 1, step: 1 }),
  ]);
  assert.deepEqual([...actual!], [Infinity, -Infinity, NaN, 0]);
  assert.equal(rounded(weights[0]!, "bf16"), weights[0]);
});
