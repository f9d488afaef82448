/** Every optimizer step of every golden training run: losses, gradient norms and final tensors of PyTorch in float64. */
import assert from "node:assert/strict";
import { caseName } from "../reference.ts";
import { repeatTraining, trainingCases } from "./training_case.ts";

for (const stored of trainingCases()) {
  Deno.test(`training ${caseName(stored)} reproduces the reference run`, async () => {
    const { loss, gradientNorm, final } = await repeatTraining(stored);
    assert.ok(loss <= 2e-5, `losses differ by ${loss}`);
    assert.ok(gradientNorm <= 1e-4, `gradient norms differ by ${gradientNorm}`);
    assert.ok(final <= 2e-4, `final tensors differ by ${final} of the size of the update`);
  });
}
