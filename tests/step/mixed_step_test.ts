/**
 * The stored LoRA runs with narrow activations and products on matrix units: they may stray from PyTorch in float64 as far as
 * PyTorch's own bf16 autocast does (`autocast.json` of the reference set), and no step may overflow.
 */
import assert from "node:assert/strict";
import { testDevice } from "../kernels/run.ts";
import { skippedWithoutUnits } from "../kernels/small_units.ts";
import { caseName } from "../reference.ts";
import { autocast, hasUnits, mixedCases, repeatMixed } from "./mixed_case.ts";

const { device } = await testDevice();

for (const mixed of mixedCases()) {
  const { stored, activation } = mixed;
  Deno.test({
    name: `training ${caseName(stored)} in ${activation} on matrix units strays no further than bf16 autocast` +
      skippedWithoutUnits(device.target),
    ignore: !hasUnits,
    async fn() {
      const { loss, gradientNorm, final, skipped } = await repeatMixed(mixed);
      const yardstick = autocast(stored);
      const found = `loss ${loss}, gradient norm ${gradientNorm}, final ${final}`;
      assert.ok(loss <= yardstick.loss && final <= yardstick.final, `${found}; autocast ${JSON.stringify(yardstick)}`);
      assert.equal(skipped, 0);
    },
  });
}
