import assert from "node:assert/strict";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { releasedSchedule } from "./released.ts";
import { UserErrors } from "../../lib/errors.ts";
import { scheduleError } from "./scheduler_golden.ts";

Deno.test("schedule tables equal the library's to 1e-12", () => {
  const { error } = scheduleError();
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

Deno.test("parseScheduleConfig() refuses every value without a table of finite alphas, and names the key", () => {
  const usable = { prediction_type: "v_prediction", beta_schedule: "scaled_linear" };
  const refused: readonly (readonly [string, unknown])[] = [
    ...[-1, 0, 0.5, 1, 1e8, 2 ** 53 - 1, "1000", null].map((n) => ["num_train_timesteps", n] as const),
    ...[-1, 0, 1, NaN].map((beta) => ["beta_start", beta] as const),
    ...[1e9, 1, 0.0001, -0.012].map((beta) => ["beta_end", beta] as const),
    ...[0, -1, Infinity, NaN].map((shift) => ["snr_shift_scale", shift] as const),
    ...["middle", 3].map((spacing) => ["timestep_spacing", spacing] as const),
    ["rescale_betas_zero_snr", "yes"],
  ];
  for (const [key, value] of refused) {
    assert.throws(
      () => parseScheduleConfig({ ...usable, [key]: value }, "scheduler_config.json"),
      (error: unknown) => error instanceof UserErrors && error.problems.some((problem) => problem.startsWith(key)),
      `${key} ${value}`,
    );
  }
  assert.equal(parseScheduleConfig(usable, "scheduler_config.json").timestep_spacing, "leading");
});
