import assert from "node:assert/strict";
import { ddimSteps } from "../../lib/diffusion/ddim.ts";
import { alphasCumprod } from "../../lib/diffusion/schedule.ts";
import { releasedSchedule } from "./released.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { caseName } from "../reference.ts";
import { schedulerCases, schedulerError } from "./scheduler_golden.ts";

for (const run of schedulerCases("ddim")) {
  Deno.test(`${caseName(run)} equals the run of diffusers in float64`, () => {
    const error = schedulerError(run, ddimSteps);
    assert.ok(error < 1e-12, `${error}`);
  });
}

Deno.test("DDIM has the coefficients of its formulas", () => {
  const steps = ddimSteps(alphasCumprod(releasedSchedule("2b")), spaceTimesteps(50, "trailing", 1000));
  const table = [[0, 0.9999864, 0.00521482], [25, 0.9924884, 0.02344527], [48, 0.70442672, 0.30749516], [49, 0, 1]];
  for (const [i, latents, clean] of table) {
    assert.ok(Math.abs(steps[i!]!.latents - latents!) < 6e-9);
    assert.ok(Math.abs(steps[i!]!.clean - clean!) < 6e-9);
  }
});
