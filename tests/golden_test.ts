/** Parity with PyTorch on the cases this repository carries: no reference set is needed. `tests/copy_golden.ts` chose them. */
import assert from "node:assert/strict";
import { ddimSteps } from "../lib/diffusion/ddim.ts";
import { dpmSteps } from "../lib/diffusion/dpm.ts";
import { decodeF32 } from "../lib/io/safetensors/half.ts";
import { openSafetensors } from "../lib/io/safetensors/safetensors.ts";
import { readLora } from "../lib/models/lora/read.ts";
import { mergeLora } from "../lib/models/lora/merge_into_weights.ts";
import { compareTokens } from "./data/text/tokenizer_case.ts";
import { scheduleError, schedulerError } from "./diffusion/scheduler_golden.ts";
import { relativeL2 } from "./kernels/run.ts";
import { Golden } from "./models/golden.ts";
import { runTextEncoder } from "./models/t5/case.ts";
import { forwardDistances, gradientDistances, runTransformer, worst } from "./models/transformer/case.ts";
import { runVae } from "./models/vae/case.ts";
import { fromFileUrl } from "./paths.ts";
import { repeatTraining } from "./step/training_case.ts";

const folder = fromFileUrl("./golden", import.meta.url);
const tiny2b = fromFileUrl("../examples/tiny-2b", import.meta.url);

Deno.test("golden: the transformer equals diffusers in output, inner results and every gradient", async () => {
  using golden = new Golden(`${folder}/transformer/2b.safetensors`);
  using expected = new Golden(`${folder}/transformer/2b.grads.safetensors`);
  const result = await runTransformer(tiny2b, golden);
  const forward = worst(forwardDistances(result, golden));
  assert.ok(forward.error <= 1e-5, JSON.stringify(forward));
  const gradients = gradientDistances(result, golden, expected);
  // Elements and norm of every parameter but the two whose exact gradient is zero, and both inputs.
  assert.equal(gradients.length, 2 * (result.gradients.size - 4) + 2);
  assert.ok(worst(gradients).error <= 1e-4, JSON.stringify(worst(gradients)));
});

Deno.test("golden: twelve steps of LoRA training equal those of PyTorch", async () => {
  const run = await repeatTraining(tiny2b, `${folder}/training/2b.lora-r4.safetensors`);
  assert.equal(run.microSteps, 12);
  assert.ok(run.loss <= 2e-5, `losses differ by ${run.loss}`);
  assert.ok(run.gradientNorm <= 1e-4, `gradient norms differ by ${run.gradientNorm}`);
  assert.ok(run.final <= 2e-4, `final tensors differ by ${run.final} of the size of the update`);
});

Deno.test("golden: text embeddings equal those of transformers", async () => {
  const error = worst(await runTextEncoder(tiny2b, `${folder}/text/t5-2b.safetensors`));
  assert.ok(error.error <= 1e-5, JSON.stringify(error));
});

for (const name of ["5b-5x16x40", "tiled-1"]) {
  Deno.test(`golden: moments, sample and decoded video of ${name} equal those of diffusers`, async () => {
    const distances = await runVae(`${folder}/pipelines`, `${folder}/vae/${name}.safetensors`);
    assert.deepEqual(new Set(distances.map(({ what }) => what)), new Set(["mean", "logvar", "sample", "decoded"]));
    assert.ok(worst(distances).error <= 1e-5, JSON.stringify(worst(distances)));
  });
}

Deno.test("golden: token ids equal those of transformers", () => {
  const { prompts, wrong } = compareTokens(`${tiny2b}/tokenizer`, `${folder}/text/tokenizer.json`);
  assert.deepEqual(wrong, []);
  assert.ok(prompts > 60);
});

Deno.test("golden: noise schedules and samplers equal diffusers in float64", () => {
  assert.ok(scheduleError(`${folder}/schedulers/tables.safetensors`) <= 1e-12);
  const run = { name: "2b", spacing: "trailing", steps: 4 } as const;
  for (const [kind, stepsOf] of [["ddim", ddimSteps], ["dpm", dpmSteps]] as const) {
    const error = schedulerError(folder, kind, run, stepsOf);
    assert.ok(error <= 1e-12, `${kind}: ${error}`);
  }
});

Deno.test("golden: a LoRA file of diffusers is read with its alpha and merges to the weights of diffusers", () => {
  const lora = readLora(`${folder}/lora/5b-meta`);
  assert.deepEqual([lora.rank, lora.alpha, lora.alphaStored], [4, 2, true]);
  using base = openSafetensors(`${folder}/lora/5b.fused.safetensors`);
  const name = "transformer_blocks.1.attn1.to_q.weight";
  const merged = mergeLora(base, lora.modules).find((tensor) => tensor.name === name)!;
  const pieces = [...(merged.data as () => Iterable<Uint8Array<ArrayBuffer>>)()];
  assert.equal(pieces.length, 1);
  const error = relativeL2(decodeF32(pieces[0]!, "f32"), base.readF32(`fused.${name}`));
  // The library's own f32 fusing is off by 2.6e-8.
  assert.ok(error <= 3e-8, `${error}`);
});
