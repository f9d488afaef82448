/** The learning-rate range test: its rates, when it ends, and what it suggests. */
import assert from "node:assert/strict";
import { hasDiverged, type RangePoint, rangeRate, rangeResult } from "../../lib/optim/rate_range.ts";
import type { RangeTestEvent, StepEvent } from "../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";

Deno.test("rates rise by one factor from the first to the last", () => {
  const rates = Array.from({ length: 7 }, (_, step) => rangeRate(step, 7, 1e-6, 1));
  rates.forEach((rate, step) => assert.ok(Math.abs(rate / 10 ** (step - 6) - 1) < 1e-12, `${rate}`));
  assert.equal(rangeRate(0, 1, 1e-6, 1), 1e-6);
});

/** Gradient descent on x^2 / 2 from x = 1 at rising rates: a rate above 2 makes the loss grow. */
function quadratic(steps: number): RangePoint[] {
  let x = 1;
  let rate: number | undefined;
  return Array.from({ length: steps }, (_, step) => {
    const point = { rate, loss: x * x / 2 };
    rate = rangeRate(step, steps, 1e-4, 100);
    x -= rate * x;
    return point;
  });
}

Deno.test("on a quadratic the lowest loss follows the last rate below 2, and a tenth of it is suggested", () => {
  const points = quadratic(61);
  const ends = points.findIndex((_, i) => hasDiverged(points.slice(0, i + 1)));
  const { lowest, suggested } = rangeResult(points.slice(0, ends))!;
  // Rates are a tenth of a decade apart.
  assert.ok(lowest < 2 && lowest * 10 ** 0.1 >= 2, `${lowest}`);
  assert.equal(suggested, lowest / 10);
});

Deno.test("a loss that only rises or is not finite suggests nothing and ends the test", () => {
  const points: RangePoint[] = [{ rate: undefined, loss: 1 }, { rate: 1, loss: 1.5 }, { rate: 2, loss: 4.1 }];
  assert.equal(rangeResult(points), undefined);
  assert.deepEqual([hasDiverged(points.slice(0, 2)), hasDiverged(points)], [false, true]);
  assert.equal(hasDiverged([...points, { rate: 3, loss: NaN }]), true);
  assert.equal(rangeResult([]), undefined);
});

Deno.test("a range test repeats one batch, suggests a rate and saves no weights", () =>
  inScratch(async (folder) => {
    const range = { lr_range_test: true, lr_range_min: 1e-5, lr_range_max: 10, train_steps: 9 };
    const events = await collect(configOf(folder, range));
    const steps = events.filter((event): event is StepEvent => event.type === "step");
    steps.forEach(({ learningRate }, i) => assert.ok(Math.abs(learningRate / 10 ** (i * 0.75 - 5) - 1) < 1e-9));
    // One batch at so small a rate: the second loss is the first but for what the adapters have learned, which is little.
    assert.ok(Math.abs(steps[1]!.loss / steps[0]!.loss - 1) < 1e-3);
    const last = events.at(-1) as RangeTestEvent;
    const at = steps.findIndex(({ loss }) => loss === Math.min(...steps.map((step) => step.loss)));
    assert.equal(last.result!.suggested, steps[at - 1]!.learningRate / 10);
    assert.deepEqual(
      [...Deno.readDirSync(`${folder}/run`)].map(({ name }) => name).filter((name) => /check/.test(name)),
      [],
    );
  }));
