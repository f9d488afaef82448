import assert from "node:assert/strict";
import { distance } from "fastest-levenshtein";
import { readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { buildRecord, buildReference, buildSchema } from "../../configs/write_schema.ts";
import { UserErrors } from "../../lib/errors.ts";
import {
  loadConfig,
  parseConfig,
  type ParseOptions,
  printConfig,
  requireTrainable,
  resolveConfig,
} from "../../lib/config/config.ts";
import { requireResumable } from "../../lib/config/compare.ts";
import { variantFromPath } from "../../lib/config/derive.ts";
import { nearestName } from "../../lib/config/nearest.ts";
import { presetNames } from "../../lib/config/presets.ts";
import { configKeys, properties } from "../../lib/config/schema.ts";
import { fromFileUrl } from "../paths.ts";

const configs = fromFileUrl("../../configs", import.meta.url);
const minimal = "model: 2b\noutput_dir: out\n";

function problemsOf(text: string, options: ParseOptions = {}): readonly string[] {
  try {
    parseConfig(text, options);
  } catch (error) {
    if (error instanceof UserErrors) return error.problems;
    throw error;
  }
  return [];
}

Deno.test("parseConfig() fills in the original trainer's defaults", () => {
  const config = parseConfig(minimal);
  assert.equal(config.model_name, "cogvideox-t2v");
  assert.equal(config.model_type, "t2v");
  assert.deepEqual(config.train_resolution, [49, 480, 720]);
  assert.deepEqual(
    [config.seed, config.train_epochs, config.checkpointing_steps, config.checkpointing_limit, config.batch_size],
    [42, 10, 200, 10, 1],
  );
  assert.deepEqual(
    [config.learning_rate, config.beta1, config.beta2, config.beta3, config.epsilon, config.weight_decay],
    [2e-5, 0.9, 0.95, 0.98, 1e-8, 1e-4],
  );
  assert.deepEqual([config.lr_scheduler, config.lr_warmup_steps, config.max_grad_norm], [
    "constant_with_warmup",
    100,
    1,
  ]);
  assert.deepEqual(config.target_modules, ["to_q", "to_k", "to_v", "to_out.0"]);
  assert.deepEqual([config.rank, config.lora_alpha, config.gen_fps, config.fps], [128, 128, 15, 8]);
});

Deno.test("keys that follow from the model: trainer name, type, resolution, frame rate", () => {
  const config = parseConfig("model_path: THUDM/CogVideoX1.5-5B-I2V");
  assert.equal(config.model_path, "THUDM/CogVideoX1.5-5B-I2V");
  assert.equal(config.model, "1.5-5b-i2v");
  assert.equal(config.model_name, "cogvideox1.5-i2v");
  assert.equal(config.model_type, "i2v");
  assert.deepEqual(config.train_resolution, [81, 768, 1360]);
  assert.equal(config.fps, 16);
  assert.equal(variantFromPath("/models/CogVideoX-2b"), "2b");
  assert.equal(variantFromPath("zai-org/CogVideoX-5b-I2V"), "5b-i2v");
  assert.equal(variantFromPath("pipelines/tiny-1.5-5b"), "tiny-1.5-5b");
  assert.equal(variantFromPath("mine"), undefined);
  assert.match(problemsOf("model_path: ./mine")[0]!, /does not tell which model it is/);
  assert.match(problemsOf("")[0]!, /nothing names a model/);
});

Deno.test("every key with one edit is refused and its nearest name given", () => {
  for (const key of configKeys) {
    const edits = [key.slice(0, 1) + key.slice(2), `${key}x`, key.replace(/.$/, "q"), key[1]! + key[0]! + key.slice(2)];
    for (const typo of edits.filter((edit) => !configKeys.includes(edit))) {
      const problem = problemsOf(`${minimal}${typo}: 1`, { fileName: "my.yaml" })[0]!;
      assert.ok(problem.startsWith(`my.yaml:3:1: unknown key "${typo}"`), problem);
      const meant = nearestName(typo, configKeys)!;
      assert.ok(problem.includes(`did you mean "${meant}"?`), problem);
      assert.ok(meant === key || distance(typo, meant) <= 1, `${typo} -> ${meant}`);
    }
  }
});

Deno.test("nearestName() finds slips and swapped letters, and no other word", () => {
  assert.equal(nearestName("learing_rate", configKeys), "learning_rate");
  assert.equal(nearestName("rnak", configKeys), "rank");
  assert.equal(nearestName("Learning-Rate", configKeys), "learning_rate");
  assert.equal(nearestName("colour_of_hair", configKeys), undefined);
});

Deno.test("all problems are reported at once with file, line and column", () => {
  const text = "model: 2b\nrank: 0\nlearning_rate: 1e-4x\ntrain_resolution: 48x470x720\nbatch: 3\noptimizer: adamv\n" +
    "target_modules: [to_q, 3]\ngradient_checkpointing: yes\nlr_power: .nan\nkeep: [attension]\n";
  assert.deepEqual(problemsOf(text, { fileName: "c.yaml" }).toSorted(), [
    'c.yaml:10:8 keep: expected a list of attention, found the text "attension"; did you mean "attention"?',
    "c.yaml:2:7 rank: expected a whole number from 1 to 4096, found 0",
    'c.yaml:3:16 learning_rate: expected a number of at least 0, found the text "1e-4x"',
    "c.yaml:4:19 train_resolution: 48 frames: expected 8N + 1 frames; use 41 or 49",
    "c.yaml:4:19 train_resolution: height 470: expected a multiple of 16; use 464 or 480",
    'c.yaml:5:1: unknown key "batch"',
    'c.yaml:6:12 optimizer: expected one of adamw, adam, prodigy, came, adamw8bit, found the text "adamv"; did you mean "adamw"?',
    "c.yaml:7:24 target_modules: expected a list of names, found 3",
    'c.yaml:8:25 gradient_checkpointing: expected true or false, found the text "yes"',
    "c.yaml:9:11 lr_power: expected a number above 0, found NaN",
  ]);
});

Deno.test("frames 1 to 100: 8N + 1 passes, others name the nearest legal counts", () => {
  for (let frames = 1; frames <= 100; frames++) {
    const problems = problemsOf(minimal, { overrides: { train_resolution: [frames, 480, 720] } });
    if (frames % 8 === 1) assert.deepEqual(problems, []);
    else {
      const below = frames - ((frames - 1) % 8);
      assert.ok(problems[0]!.endsWith(`use ${below} or ${below + 8}`), problems[0]);
    }
  }
});

Deno.test("bounds hold at the boundary and one beside it", () => {
  for (
    const key of ["rank", "batch_size", "gradient_accumulation_steps", "train_steps", "checkpointing_limit", "gpus"]
  ) {
    assert.deepEqual(problemsOf(minimal, { overrides: { [key]: 1 } }), [], key);
    for (const bad of [0, -1, 1.5, NaN, Infinity, 1e20]) {
      assert.equal(problemsOf(minimal, { overrides: { [key]: bad } }).length, 1, `${key} ${bad}`);
    }
  }
  assert.equal(problemsOf(minimal, { overrides: { beta1: 1 } }).length, 1);
  assert.equal(problemsOf(minimal, { overrides: { zero_stage: 1 } }).length, 1);
});

Deno.test("hostile YAML is refused with a place: tabs, duplicates, aliases, tags, nesting, odd keys", () => {
  for (
    const text of [
      "a:\tb: 1",
      "rank: 4\nrank: 8",
      "a: &x [1]\nkeep: *x",
      "rank: !!js/function 'x'",
      "[".repeat(20000),
      "rank: {a: 1}",
      "__proto__: 1",
      "constructor: 1",
      "<<: {rank: 1}",
      "- rank",
      "just text",
      "? [1]\n: 2",
      "x".repeat(2 << 20),
    ]
  ) {
    const problems = problemsOf(`${text}\n`, { fileName: "h.yaml" });
    assert.ok(problems.some((problem) => /^h\.yaml(:\d+:\d+)?/.test(problem)), text.slice(0, 30));
  }
});

Deno.test("YAML 1.2 scalars: 010 is ten, yes and 1_000 are text", () => {
  assert.equal(parseConfig(`${minimal}rank: 010`).rank, 10);
  assert.equal(problemsOf(`${minimal}rank: 1_000`).length, 1);
  assert.equal(parseConfig(`${minimal}mixed_precision: no`).mixed_precision, "no");
});

Deno.test("command-line text is strict: False is false, 1 is no boolean", () => {
  const read = (text: string) => parseConfig(minimal, { overrides: { gradient_checkpointing: text } });
  for (const text of ["False", "false", "FALSE"]) assert.equal(read(text).gradient_checkpointing, false);
  for (const text of ["True", "true"]) assert.equal(read(text).gradient_checkpointing, true);
  for (const text of ["1", "yes", "", "no"]) assert.throws(() => read(text), UserErrors);
  for (const text of ["0x10", "1e", "", " 1", "Infinity"]) {
    assert.throws(() => parseConfig(minimal, { overrides: { learning_rate: text } }), UserErrors, text);
  }
  assert.equal(parseConfig(minimal, { overrides: { learning_rate: "1e-4" } }).learning_rate, 1e-4);
  const lists = ["to_q to_k", "[to_q, to_k]", "to_q,to_k", '["to_q","to_k"]'];
  for (const target_modules of lists) {
    assert.deepEqual(parseConfig(minimal, { overrides: { target_modules } }).target_modules, ["to_q", "to_k"]);
  }
  assert.deepEqual(parseConfig(minimal, { overrides: { train_resolution: "9x48x64" } }).train_resolution, [9, 48, 64]);
});

Deno.test("defaults < preset < file < overrides, and null unsets", () => {
  const file = "preset: 5b-lora\nrank: 64\nseed: 7\n";
  const config = parseConfig(file, { overrides: { seed: "9", mixed_precision: null } });
  assert.deepEqual([config.model, config.rank, config.seed, config.mixed_precision], ["5b", 64, 9, "no"]);
  assert.equal(config.gpu_memory, 24);
  assert.equal(parseConfig(file, { overrides: { preset: "2b-lora" } }).model, "2b");
  assert.throws(() => parseConfig("preset: 5b-lore"), /did you mean "5b-lora"\?/);
});

Deno.test("paths: file values start at the file's folder, overrides at the current folder, ~ at home", () => {
  const text = "model: 2b\ndata_root: clips\noutput_dir: ~/runs\nmodel_path: ./weights\n";
  const config = parseConfig(text, { fileName: "/some/where/c.yaml", overrides: { validation_dir: "v" } });
  assert.equal(config.data_root, "/some/where/clips");
  assert.equal(config.model_path, "/some/where/weights");
  assert.equal(config.output_dir, `${homedir()}/runs`);
  assert.equal(config.validation_dir, resolve("v"));
  const now = new Date("2025-03-04T05:06:07Z");
  assert.equal(parseConfig("model: 2b", { now }).output_dir, resolve("runs/2025-03-04_05-06-07"));
  assert.equal(parseConfig("model: 2b\nresume_from_checkpoint: /r/checkpoint-20").output_dir, "/r");
});

Deno.test("alpha follows the rank of each layer unless lora_alpha is set, and stays so when the config is read again", () => {
  const unset = parseConfig(`${minimal}rank: 8\nrank_pattern: [to_q=4]\nalpha_pattern: [to_v=2]`);
  assert.deepEqual([unset.lora_alpha, unset.alpha_pattern], [8, ["to_v=2", "to_q=4"]]);
  assert.deepEqual(parseConfig(printConfig(unset)), unset);
  assert.deepEqual(parseConfig(`${minimal}lora_alpha: 8\nrank_pattern: [to_q=4]`).alpha_pattern, []);
});

Deno.test("contradictions are refused", () => {
  const cases: [string, RegExp][] = [
    ["model_name: cogvideox-i2v", /model_name: model "2b" is trained as cogvideox-t2v/],
    ["model_type: i2v", /model_type: cogvideox-t2v is a t2v model/],
    ["training_type: sft\nbase_weights: nf4", /nf4 weights cannot be trained/],
    ["training_type: sft\ninit_lora: x.safetensors", /init_lora: sft has no adapters/],
    ["rank_pattern: [to_q]", /rank_pattern: expected a list of LAYER=NUMBER, found the text "to_q"/],
    ["rank_pattern: [to_q=5000]", /rank_pattern: to_q=5000: expected a number above 0, at most 4096/],
    ["alpha_pattern: [to_q=0]", /alpha_pattern: to_q=0: expected a number above 0/],
    ["do_validation: true\nvalidation_steps: 30", /validation_dir: must be set/],
    ["do_validation: true\nvalidation_steps: 30", /validation_prompts: must be set/],
    [
      "do_validation: true\nvalidation_steps: 30",
      /validation_steps: 30: expected a multiple of checkpointing_steps, which is 200/,
    ],
  ];
  for (const [text, expected] of cases) {
    assert.ok(problemsOf(minimal + text).some((problem) => expected.test(problem)), `${expected}`);
  }
  assert.ok(problemsOf("model: 5b-i2v\ntrain_resolution: 49x512x768")[0]!.includes("480x720 only"));
  assert.ok(problemsOf("model: 2b\nresume_from_checkpoint: latest")[0]!.includes("set output_dir"));
});

Deno.test("settings that are likely a mistake give a note with their place", () => {
  const cases: [string, RegExp][] = [
    ["lora_alpha: 1", /^config:3:13 lora_alpha: lora_alpha \/ rank is 0\.0078/],
    ["rank: 16", /rank: 16: a rank of 64 or more/],
    ["model: 5b\nmixed_precision: fp16", /use bf16/],
    ["optimizer: prodigy", /learning rate is usually 1/],
    ["num_workers: 8", /^config:3:14 num_workers: has no effect/],
    ["report_to: wandb", /wandb is not supported/],
    ["train_resolution: 49x512x768", /trained at 480x720/],
    ["train_resolution: 57x480x720", /at most 49/],
    ["train_steps: 50", /never reaches its peak/],
    ["condition_dropout: 0.1", /no effect on text to video/],
    ["lr_range_test: true\nprofile: 2", /^config:4:10 profile: has no effect on a range test/],
  ];
  for (const [text, expected] of cases) {
    const base = text.startsWith("model:") ? "output_dir: out\n" : minimal;
    const { notes } = resolveConfig(base + text);
    assert.ok(notes.some((note) => expected.test(note)), `${expected} in ${notes}`);
  }
  assert.deepEqual(resolveConfig(minimal).notes, []);
});

Deno.test("profile was a switch in the checkpoints of 0.1: false is off", () => {
  assert.equal(parseConfig(`${minimal}profile: false`).profile, 0);
  assert.equal(parseConfig(`${minimal}profile: 3`).profile, 3);
  assert.match(problemsOf(`${minimal}profile: -1`).join(), /expected a whole number from 0 to 1000/);
});

Deno.test("printConfig() reads back to the same config", () => {
  for (const preset of presetNames) {
    const config = parseConfig(`preset: ${preset}\noutput_dir: /runs/x\nid_token: "a: b #c"`);
    assert.deepEqual(parseConfig(printConfig(config)), config);
  }
});

Deno.test("every preset parses without problems, names its model and starts with the schema line", async () => {
  const files = readdirSync(configs).filter((name) => name.endsWith(".yaml")).map((name) => name.slice(0, -5));
  assert.deepEqual(files.toSorted(), [...presetNames].toSorted());
  for (const name of presetNames) {
    const { config, notes } = await loadConfig({ preset: name });
    assert.deepEqual(notes.filter((note) => !note.startsWith("image_column")), [], name);
    // The model of the demo has a shape of its own, which its folder tells.
    assert.equal(config.model === undefined, name === "default", name);
    const text = readFileSync(`${configs}/${name}.yaml`, "utf8");
    assert.match(text, /^# yaml-language-server: \$schema=schema\.json\n# /);
  }
});

Deno.test("schema.json, the type of a config and docs/config.md are up to date: deno task schema", () => {
  assert.deepEqual(JSON.parse(readFileSync(`${configs}/schema.json`, "utf8")), buildSchema());
  assert.equal(readFileSync(`${configs}/../lib/config/record.ts`, "utf8"), buildRecord());
  // The formatter wraps lines.
  const words = (text: string) => text.split(/\s+/);
  assert.deepEqual(words(readFileSync(`${configs}/../docs/config.md`, "utf8")), words(buildReference()));
});

Deno.test("every key has a sentence and a group", () => {
  for (const [key, { description, "x-group": group }] of Object.entries(properties)) {
    assert.match(description, /^[A-Z].*\.$/, key);
    assert.match(group, /^[A-Z]/, key);
  }
});

Deno.test("requireTrainable() names data and weights when they are missing", () => {
  assert.throws(() => requireTrainable(parseConfig(minimal)), /data_root: not set(.|\n)*model_path: not set/);
  const text = `${minimal}random_weights: true`;
  requireTrainable(parseConfig(text));
  assert.throws(() => requireTrainable(parseConfig(`${text}\nmodel_path: ${configs}`)), /data_root: not set/);
});

Deno.test("random weights without a folder: the trainer's name is shape enough, and what needs encoders is refused", () => {
  const drawn = (text: string) => `random_weights: true\n${text}`;
  const shapes = ["cogvideox-t2v", "cogvideox-i2v", "cogvideox1.5-t2v", "cogvideox1.5-i2v"].map((name) => {
    return parseConfig(drawn(`model_name: ${name}`)).model;
  });
  assert.deepEqual(shapes, ["2b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"]);
  assert.equal(parseConfig(drawn("preset: 5b-lora")).model, "5b");
  const refused = problemsOf(drawn("model: 5b\nheldout_root: x\ninit_lora: y")).join("\n");
  assert.match(refused, /heldout_root: .*nothing to encode with/);
  assert.match(refused, /init_lora: .*nothing to encode with/);
  assert.ok(
    resolveConfig(drawn("model: 5b\ndata_root: z")).notes.some((note) => /data_root: has no effect/.test(note)),
  );
});

Deno.test("requireResumable() refuses what the saved state cannot follow and lists what changes the result", () => {
  const saved = parseConfig(`${minimal}train_steps: 10`);
  const read = (text: string) =>
    parseConfig(text + minimal.replace("model: 2b\n", text.includes("model:") ? "" : "model: 2b\n"));
  assert.deepEqual(requireResumable(saved, read("checkpointing_steps: 5\ntrain_steps: 10\n")), []);
  assert.deepEqual(requireResumable(saved, read("train_steps: 20\nlearning_rate: 1e-4\n")).toSorted(), [
    "learning_rate: 0.00002 in the checkpoint, 0.0001 here",
    "train_steps: 10 in the checkpoint, 20 here",
  ]);
  assert.throws(
    () => requireResumable(saved, read("model: 5b\nrank: 64\noptimizer: adam\n")),
    (error: UserErrors) =>
      ["model", "optimizer", "rank", "lora_alpha"].every((key) => error.message.includes(`- ${key}: `)),
  );
  const sft = "training_type: sft\n";
  assert.deepEqual(requireResumable(parseConfig(minimal + sft), parseConfig(`${minimal}${sft}rank: 4`)), []);
});

Deno.test("loadConfig() names a config file that does not exist", async () => {
  await assert.rejects(loadConfig({ fileName: "nowhere.yaml" }), /"nowhere.yaml" does not exist/);
});

Deno.test("what cannot be sharded is refused before anything starts", () => {
  const problems = (text: string): readonly string[] => {
    try {
      parseConfig(`model: tiny-2b\ntraining_type: sft\nzero_stage: 2\ngpus: 2\n${text}`);
      return [];
    } catch (error) {
      return (error as UserErrors).problems;
    }
  };
  assert.deepEqual(problems("optimizer: adam"), []);
  assert.match(problems("optimizer: came")[0]!, /zero_stage.*came cannot be sharded; use adamw or adam/);
  assert.match(problems("ema_decay: 0.9")[0]!, /ema_decay.*no average/);
});
