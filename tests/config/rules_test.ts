/** Settings that contradict each other, have no effect, or flood: what is said of each, and at which key. */
import assert from "node:assert/strict";
import { requireResumable } from "../../lib/config/compare.ts";
import { gpuMemoryLimit, parseConfig, requireTrainable, resolveConfig } from "../../lib/config/config.ts";
import { variantFromPath } from "../../lib/config/derive.ts";
import { UserErrors } from "../../lib/errors.ts";
import { withFolder } from "../io/faulty_operations.ts";

const base = "model: 2b\noutput_dir: out\n";

function errorsOf(text: string): UserErrors {
  try {
    parseConfig(text, { fileName: "c.yaml" });
  } catch (error) {
    assert.ok(error instanceof UserErrors, `${error}`);
    return error;
  }
  assert.fail("it was accepted");
}

/** Settings, and the only problem with them. */
const REFUSED: readonly (readonly [settings: string, says: RegExp])[] = [
  ["train_resolution: 9x8x48", /train_resolution: height 8: expected a multiple of 16; use 16$/],
  ["buckets: [9x48x80, 9x64x64, 9x48x80]", /buckets: 9x48x80: is listed twice/],
  ["buckets: [9x48x80, 10x64x64]", /buckets: 10x64x64: 10 frames: expected 8N \+ 1 frames; use 9 or 17/],
  ["use_dora: true\nlora_dropout: 0.5", /lora_dropout: 0.5: DoRA is trained without dropout/],
  ["lr_scheduler: polynomial\nlearning_rate: 1e-7", /learning_rate: 1e-7: polynomial ends at 1e-7/],
  ["lr_range_test: true\nlr_range_min: 0.1\nlr_range_max: 0.1", /lr_range_max: 0.1: expected more than lr_range_min/],
  ["lr_range_test: true\nresume_from_checkpoint: x", /lr_range_test: begins with the initial weights/],
  ["timestep_min: 9\ntimestep_max: 8", /timestep_max: 8: expected at least timestep_min, which is 9/],
  ["keep_best: true", /keep_best: needs heldout_root/],
  ["push_to_hub: name", /push_to_hub: "name" is no repository of a hub; give owner\/name/],
  ["push_to_hub: owner/name@v1", /push_to_hub: .* is no repository of a hub/],
  [
    "training_type: sft\nmaster_weights: bf16_kahan\nmixed_precision: bf16\noptimizer: prodigy",
    /optimizer prodigy updates f32/,
  ],
];

Deno.test("settings that cannot be had together are refused at the key that has to change", () => {
  for (const [settings, says] of REFUSED) {
    const { problems } = errorsOf(base + settings);
    assert.equal(problems.length, 1, `${settings}: ${problems}`);
    assert.match(problems[0]!, /^c\.yaml:\d+:\d+ /);
    assert.match(problems[0]!, says);
  }
  const images = "model: 5b-i2v\ndo_validation: true\nvalidation_dir: d\nvalidation_prompts: p\nvalidation_steps: 200";
  assert.match(errorsOf(images).problems.join(), /validation_images: must be set when do_validation is true/);
});

/** Settings, and the only note on them. */
const NOTED: readonly (readonly [settings: string, says: RegExp])[] = [
  ["push_to_hub: owner/name\nlr_range_test: true", /push_to_hub: has no effect on a range test/],
  ["zero_stage: 2\ngpus: 2", /zero_stage: has no effect on adapters/],
  ["init_lora: a\nresume_from_checkpoint: b", /init_lora: has no effect on a run that continues/],
  ["use_rslora: true\nlora_alpha: 1", /lora_alpha \/ sqrt\(rank\) is 0\.088, which learns poorly/],
  ["gradient_checkpointing: false\noffload_activations: true", /offload_activations: has no effect without gradient/],
  ["gradient_checkpointing: false\nkeep: [attention]", /keep: has no effect without gradient_checkpointing/],
  ["frame_selection: stride\nfps: 8", /fps: has no effect on frame_selection: stride/],
  ["timestep_logit_mean: 1", /timestep_logit_mean: has no effect without timestep_sampling/],
  ["optimizer: prodigy\nlr_range_test: true", /lr_range_test: Prodigy finds the step size itself/],
  ["optimizer: came\nepsilon: 1e-8", /epsilon: has no effect on CAME/],
];

Deno.test("settings without effect are noted at their key, and nothing else is", () => {
  for (const [settings, says] of NOTED) {
    const { notes } = resolveConfig(base + settings, { fileName: "c.yaml" });
    assert.equal(notes.length, 1, `${settings}: ${notes}`);
    assert.match(notes[0]!, /^c\.yaml:\d+:\d+ /);
    assert.match(notes[0]!, says);
  }
  for (const settings of ["optimizer: prodigy\nlearning_rate: 1", "optimizer: came", "keep: [attention]"]) {
    assert.deepEqual(resolveConfig(base + settings).notes, [], settings);
  }
});

Deno.test("a file that nests without end or breaks a rule at every character makes a message of a hundred lines", () => {
  const bombs = ["[".repeat(5_000), "{a: ".repeat(4_000), "- ".repeat(5_000), "? ".repeat(5_000)];
  for (const bomb of bombs) {
    assert.deepEqual(errorsOf(bomb).problems.filter((problem) => problem.startsWith("c.yaml")), [
      "c.yaml: nested too deeply for a config",
    ]);
  }
  const flood = errorsOf(`a: [${",".repeat(1_000)}]`);
  assert.ok(flood.problems.length > 999);
  const lines = flood.message.split("\n");
  assert.ok(lines.length <= 103, `${lines.length}`);
  assert.ok(lines.some((line) => /^ {2}- and \d+ more$/.test(line)));
});

Deno.test("what a checkpoint was trained with is compared whether it is set, a list or neither", () => {
  const saved = parseConfig(`${base}target_modules: [to_q, to_k]\ntrain_steps: 5`);
  const current = parseConfig(`${base}target_modules: [to_q]\nheldout_root: h`);
  assert.throws(() => requireResumable(saved, current), /target_modules: to_q to_k in the checkpoint, to_q here/);
  const { train_steps: _, ...without } = saved;
  assert.deepEqual(requireResumable(saved, without), ["train_steps: 5 in the checkpoint, unset here"]);
});

Deno.test("requireTrainable() names all that is not where it should be", () =>
  withFolder((folder) => {
    const paths = `data_root: ${folder}/clips\ninit_lora: ${folder}/lora\nmodel_path: ${folder}`;
    assert.throws(
      () => requireTrainable(parseConfig(`${base}${paths}`)),
      (error) =>
        error instanceof UserErrors && error.problems.length === 2 &&
        [/data_root: ".*clips" does not exist/, /init_lora: ".*lora" does not exist/].every((expected, i) =>
          expected.test(error.problems[i]!)
        ),
    );
    requireTrainable(parseConfig(`${base}data_root: ${folder}\ninit_lora: ${folder}\nmodel_path: ${folder}`));
  }));

Deno.test("the name of a model's folder tells its variant; GPU memory is in GiB, and without limit when unset", () => {
  for (
    const [path, variant] of [
      ["THUDM/CogVideoX-2b", "2b"],
      ["/models/CogVideoX-5b/", "5b"],
      ["THUDM/CogVideoX-5b-I2V@v1", "5b-i2v"],
      ["CogVideoX1.5-5B", "1.5-5b"],
      ["CogVideoX1.5-5B-I2V", "1.5-5b-i2v"],
      ["elsewhere/model", undefined],
    ] as const
  ) assert.equal(variantFromPath(path), variant, path);
  assert.equal(gpuMemoryLimit(parseConfig(`${base}gpu_memory: 24`)), 24 * 2 ** 30);
  assert.equal(gpuMemoryLimit(parseConfig(base)), Infinity);
});
