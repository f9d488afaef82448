import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { keepStrength, spaceTimesteps, type Spacing } from "../../lib/diffusion/timesteps.ts";
import { referencePath } from "../reference.ts";

Deno.test("spaceTimesteps() equals the library for every spacing", () => {
  const { cases } = JSON.parse(readFileSync(referencePath("schedulers/timesteps.json"), "utf8")) as {
    cases: { spacing: Spacing; steps: number; step_back: number; timesteps: number[] }[];
  };
  assert.ok(cases.length >= 3);
  for (const { spacing, steps, step_back, timesteps } of cases) {
    assert.deepEqual(spaceTimesteps(steps, spacing, 1000), { timesteps, stepBack: step_back }, `${spacing} ${steps}`);
  }
});

Deno.test("spaceTimesteps() refuses counts that no schedule has", () => {
  for (const steps of [0, -1, 2.5, 1001, NaN]) {
    assert.throws(() => spaceTimesteps(steps, "trailing", 1000), /integer from 1 to 1000/);
  }
});

Deno.test("keepStrength() keeps the last part of the list and the length of a step", () => {
  const all = spaceTimesteps(50, "trailing", 1000);
  const kept = keepStrength(all, 0.8);
  assert.deepEqual(kept, { timesteps: all.timesteps.slice(10), stepBack: 20 });
  assert.deepEqual(keepStrength(all, 1), all);
  // 100 * 0.29 is 28.999999999999996, which the pipeline truncates too.
  assert.equal(keepStrength(spaceTimesteps(100, "trailing", 1000), 0.29).timesteps.length, 28);
  for (const strength of [0, 0.01, 1.1, NaN]) assert.throws(() => keepStrength(all, strength), RangeError);
});
