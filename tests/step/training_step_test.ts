/** Twelve optimizer steps of every golden training run: losses, gradient norms and final tensors of PyTorch in float64. */
import assert from "node:assert/strict";
import { referenceTest } from "../reference.ts";
import { repeatTraining } from "./training_case.ts";

for (const variant of ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"]) {
  for (const kind of ["lora-r4", "lora-r8", "sft"]) {
    referenceTest(`training ${variant} ${kind} reproduces the reference run`, async (folder) => {
      const run = `${folder}/training/${variant}.${kind}`;
      const { loss, gradientNorm, final, microSteps } = await repeatTraining(
        `${folder}/pipelines/tiny-${variant}`,
        `${run}.safetensors`,
        kind === "sft" ? `${run}.final.safetensors` : undefined,
      );
      assert.ok(microSteps >= 12);
      assert.ok(loss <= 2e-5, `losses differ by ${loss}`);
      assert.ok(gradientNorm <= 1e-4, `gradient norms differ by ${gradientNorm}`);
      assert.ok(final <= 2e-4, `final tensors differ by ${final} of the size of the update`);
    });
  }
}
