import assert from "node:assert/strict";
import { alphasCumprod, parseScheduleConfig, releasedSchedule } from "../../lib/diffusion/schedule.ts";
import { UserErrors } from "../../lib/errors.ts";
import { referenceTest } from "../reference.ts";
import { scheduleError } from "./scheduler_golden.ts";

referenceTest("schedule tables equal the library's to 1e-12", (folder) => {
  const error = scheduleError(`${folder}/schedulers/tables.safetensors`);
  assert.ok(error <= 1e-12, `${error}`);
});

Deno.test("alphasCumprod() reaches zero at the last timestep only when rescaled", () => {
  assert.equal(alphasCumprod(releasedSchedule("5b"))[999], 0);
  assert.ok(alphasCumprod({ ...releasedSchedule("5b"), rescale_betas_zero_snr: false })[999]! > 0);
});

Deno.test("parseScheduleConfig() refuses another prediction type and schedule at once", () => {
  assert.throws(
    () => parseScheduleConfig({ prediction_type: "epsilon", beta_schedule: "linear" }, "scheduler_config.json"),
    (error: unknown) => error instanceof UserErrors && error.problems.length === 2,
  );
});
