import assert from "node:assert/strict";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { alphasCumprod } from "../../lib/diffusion/schedule.ts";
import { releasedSchedule } from "./released.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { caseName } from "../reference.ts";
import { schedulerCases, schedulerError } from "./scheduler_golden.ts";

for (const run of schedulerCases("dpm")) {
  Deno.test(`${caseName(run)} equals the run of diffusers in float64`, () => {
    const error = schedulerError(run, dpmSteps);
    assert.ok(error < 1e-12, `${error}`);
  });
}

Deno.test("DPM has the coefficients of its formulas and is finite at both ends", () => {
  const steps = dpmSteps(alphasCumprod(releasedSchedule("5b")), spaceTimesteps(50, "trailing", 1000));
  // Step, m1, m2, mn, 1/(2r).
  const table = [
    [0, 0, 0.00926217, 0.99995711, 0],
    [1, 0.4780604, 0.014941, 0.87812454, 0],
    [25, 0.91299371, 0.07010698, 0.31385665, 0.4909493],
    [48, 0.47281169, 0.52713708, 0.10053115, 0.80629502],
    [49, 0, 1, 0, 0],
  ];
  for (const [i, m1, m2, mn, slope] of table) {
    const { latents, clean, previous, noise } = steps[i!]!;
    const pairs = [[latents, m1], [clean + previous, m2], [noise, mn], [-previous, m2! * slope!]];
    for (const [actual, expected] of pairs) {
      assert.ok(Math.abs(actual! - expected!) < 1e-8, `${i}: ${actual} ${expected}`);
    }
  }
  for (const step of steps) for (const value of Object.values(step)) assert.ok(Number.isFinite(value));
});
