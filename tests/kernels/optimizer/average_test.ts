import assert from "node:assert/strict";
import { movingAverage } from "../../../kernels/optimizer/average.ts";
import { numbers, relativeL2, runLaunch } from "../run.ts";

Deno.test("the moving average follows its formula and ignores skipped steps", async () => {
  const [average, parameters] = [numbers(300, 1), numbers(300, 2)];
  const launch = movingAverage({ elements: 300, decay: 0.999 });
  const [kept] = await runLaunch(launch, [average, parameters, Float32Array.of(0, 1, 0, 0)]);
  assert.ok(relativeL2(kept!, Float64Array.from(average, (v, i) => 0.999 * v + 0.001 * parameters[i]!)) < 1e-7);
  const [skipped] = await runLaunch(launch, [average, parameters, Float32Array.of(0, 1, 1, 0)]);
  assert.deepEqual(skipped, average);
});
