import assert from "node:assert/strict";
import { configArguments, normalizeArguments } from "../../../lib/cli/settings/arguments.ts";

Deno.test("normalizeArguments() makes one form of dashes, underscores and equals signs", () => {
  for (
    const args of [["--train_steps", "5"], ["--train-steps", "5"], ["--train_steps=5"], ["--train-steps=5"], [
      "train_steps=5",
    ]]
  ) {
    assert.deepEqual(normalizeArguments(args), ["train_steps=5"], args.join(" "));
  }
});

Deno.test("normalizeArguments() gathers lists, and ends them at flags and settings", () => {
  assert.deepEqual(normalizeArguments(["--target_modules", "to_q", "to_k", "--rank", "4"]), [
    "target_modules=to_q to_k",
    "rank=4",
  ]);
  assert.deepEqual(normalizeArguments(["--target_modules", "to_q", "rank=4"]), ["target_modules=to_q", "rank=4"]);
});

Deno.test("normalizeArguments() reads booleans with, without and against a word", () => {
  assert.deepEqual(normalizeArguments(["--do_validation", "--rank", "4"]), ["do_validation=true", "rank=4"]);
  assert.deepEqual(normalizeArguments(["--do_validation", "False"]), ["do_validation=False"]);
  assert.deepEqual(normalizeArguments(["--no-gradient-checkpointing"]), ["gradient_checkpointing=false"]);
  assert.deepEqual(normalizeArguments(["--no_enable_tiling", "my.yaml"]), ["enable_tiling=false", "my.yaml"]);
  assert.deepEqual(normalizeArguments(["--dry-run"]), ["dry_run=true"]);
  assert.deepEqual(normalizeArguments(["--pin_memory"]), ["pin_memory=true"]);
});

Deno.test("normalizeArguments() keeps values that look odd", () => {
  assert.deepEqual(normalizeArguments(["--seed", "-1"]), ["seed=-1"]);
  assert.deepEqual(normalizeArguments(["--id_token", "a=b, "]), ["id_token=a=b, "]);
  assert.deepEqual(normalizeArguments(["--id_token=--x"]), ["id_token=--x"]);
  assert.deepEqual(normalizeArguments(["--rank", "--help"]), ["rank=", "--help"]);
});

Deno.test("configArguments() finds the file and falls back to the default preset when no model is named", () => {
  assert.deepEqual(configArguments([]), { overrides: { preset: "default" } });
  assert.deepEqual(configArguments(["train_steps=5"]), { overrides: { preset: "default", train_steps: "5" } });
  assert.deepEqual(configArguments(["model-path=x"]), { overrides: { model_path: "x" } });
  assert.deepEqual(configArguments(["my.yaml", "rank=4"]), { fileName: "my.yaml", overrides: { rank: "4" } });
  assert.deepEqual(configArguments(["config=my.conf"]), { fileName: "my.conf", overrides: {} });
  assert.throws(() => configArguments(["a.yaml", "b.yaml", "stray"]), /2 problems(.|\n)*"stray"(.|\n)*one config file/);
});
