import assert from "node:assert/strict";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { alphasCumprod } from "../../lib/diffusion/schedule.ts";
import { releasedSchedule } from "./released.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { referenceTest } from "../reference.ts";
import { SCHEDULER_CASES, schedulerError } from "./scheduler_golden.ts";

referenceTest("DPM equals every stored run of the library in float64", (folder) => {
  for (const run of SCHEDULER_CASES) {
    const error = schedulerError(folder, "dpm", run, dpmSteps);
    assert.ok(error < 1e-12, `${run.name} ${run.spacing} ${run.steps}: ${error}`);
  }
});

Deno.test("DPM has the coefficients of the specification and is finite at both ends", () => {
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
