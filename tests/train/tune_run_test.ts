/** `tune` looks at the run that `train` would make, and refuses what `train` refuses, before it asks for a GPU. */
import assert from "node:assert/strict";
import { resolveConfig } from "../../lib/config/config.ts";
import { UserError } from "../../lib/errors.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { storedType } from "../../lib/step/model_state.ts";
import { describeRun } from "../../lib/step/run_description.ts";
import { describeKernels } from "../../lib/train/checks/preflight.ts";
import { problemsOfRun } from "../../lib/train/kernels.ts";
import { tuneRun } from "../../lib/train/tune_run.ts";
import { testDevice } from "../kernels/run.ts";
import { configOf } from "./runs.ts";

Deno.test("the kernels of a model folder are those of the run that is made of it", async () => {
  const { device } = await testDevice();
  const config = configOf("unused", { mixed_precision: "no" });
  const model = openModelFolder(config.model_path!);
  const keys = (run: ReturnType<typeof describeRun>) => problemsOfRun(device, run).map(({ key }) => key);
  const own = keys(await describeKernels(config));
  assert.deepEqual(own, keys(describeRun(config, model.transformer, { stored: storedType(model) })));
  assert.ok(own.length > 10);
});

Deno.test("a released model that is not on this machine is taken by its name", async () => {
  for (const text of ["preset: 5b-lora", "model: tiny-2b\nrandom_weights: true\nmodel_name: cogvideox-t2v"]) {
    const { config } = resolveConfig(text);
    const { step } = await describeKernels(config);
    assert.equal(step.model.num_attention_heads, text.includes("5b") ? 48 : 2);
  }
});

const refused: readonly (readonly [what: string, overrides: Record<string, unknown>, reason: RegExp])[] = [
  [
    "another kind of model",
    { model: "tiny-5b-i2v", model_name: "cogvideox-i2v" },
    /model_name is cogvideox-i2v, but .* of a cogvideox-t2v/,
  ],
  ["a hub id that was never downloaded", { model_path: "nobody/nothing" }, /no model of this id is downloaded/],
  ["a folder that is not there", { model_path: "./nowhere/at/all" }, /nowhere/],
  ["a clip with too many tokens", { train_resolution: "49x4096x4096" }, /tokens of a clip and its prompt/],
];

for (const [what, overrides, reason] of refused) {
  Deno.test(`tune refuses ${what}, as train does`, async () => {
    const config = configOf("unused", overrides);
    await assert.rejects(() => tuneRun(config).next(), (error) => {
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(`${error.message}`, reason);
      return true;
    });
  });
}
