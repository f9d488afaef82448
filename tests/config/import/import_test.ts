/** Configs of other trainers: what becomes of each setting, and that the result trains. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { importConfig, writeImported } from "../../../lib/config/import/import_config.ts";
import { readForeign } from "../../../lib/config/import/read_foreign.ts";
import { TRAINERS } from "../../../lib/config/import/trainers.ts";
import { UserError } from "../../../lib/errors.ts";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { command } from "../../bad_input/command.ts";
import { examples, inScratch } from "../../train/runs.ts";
import { fixtures, IMPORT_CASES, imported } from "./cases.ts";

for (const { given, trainer, settings, left } of IMPORT_CASES) {
  Deno.test(`config import reads ${given.slice(0, 40)}`, () =>
    inScratch(async (folder) => {
      const found = imported(given);
      assert.equal(found.trainer.name, trainer);
      const values = Object.fromEntries([...found.settings].map(([key, { value }]) => [key, value]));
      const here = JSON.parse(JSON.stringify(settings).replaceAll("PATH", fixtures));
      assert.deepEqual(values, here);
      const reasons = new Map(found.left.map(({ from, why }) => [/^(?:--)?([\w.]+)/.exec(from)![1]!, why]));
      assert.deepEqual([...reasons.keys()], Object.keys(left));
      for (const [key, says] of Object.entries(left)) assert.match(reasons.get(key)!, says, key);

      const yaml = join(folder, "imported.yaml");
      writeFileSync(yaml, writeImported(found, given));
      const clips = join(folder, "clips");
      const onTinyModel = [
        ...["train", yaml, `--model_path=${join(examples, "tiny-2b")}`, "--model_name=cogvideox-t2v"],
        ...["--model_type=t2v", `--data_root=${clips}`, `--heldout_root=${clips}`, "--train_resolution=9x32x48"],
        ...["--rank=4", "--batch_size=1", "--gpus=1", "--fps=8"],
      ];
      const { code, out, error } = await command([...onTinyModel, "--dry_run"]);
      assert.equal(code, 0, error);
      // What the dry run prints is the whole config.
      for (const [key, value] of Object.entries(here)) {
        if (/model|data_root|heldout|resolution|^rank|batch_size|gpus|fps/.test(key)) continue;
        const list = Array.isArray(value) ? `\n  - ${value.join("\n  - ")}` : ` "?${value}"?`;
        assert.match(out, new RegExp(`^${key}:${list.replace(/[.+]/g, "\\$&")}$`, "m"), key);
      }
      const output = join(folder, "out");
      const run = await command([
        ...[...onTinyModel, "--buckets=9x32x48", "--train_steps=2", "--gradient_accumulation_steps=1"],
        ...["--do_validation=false", `--output_dir=${output}`],
      ]);
      assert.equal(run.code, 0, run.error);
      assert.deepEqual(listCheckpoints(output).map(({ step }) => step), [2]);
    }));
}

Deno.test("every trainer is among the imported configs", () => {
  const imported = new Set(IMPORT_CASES.map(({ trainer }) => trainer));
  assert.deepEqual(TRAINERS.map(({ name }) => name).filter((name) => !imported.has(name)), []);
});

Deno.test("secrets stay out of the file, and comments cannot become settings", () => {
  const text = "python train.py --model_path m --training_type lora --hub_token hf_abc --seed x --odd 'a\nrank: 7'";
  const yaml = writeImported(importConfig(readForeign(text, "x", "/")), "x\ny: 1");
  assert.doesNotMatch(yaml, /hf_abc|^rank|^y:/m);
  assert.match(yaml, /^# {3}--odd a rank: 7: is not known here$/m);
  assert.match(yaml, /^# {3}--seed x: seed takes a whole number/m);
});

Deno.test("config import refuses what it does not know, and overwrites nothing", () =>
  inScratch(async (folder) => {
    const at = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const cases: readonly (readonly [string, RegExp])[] = [
      [join(folder, "none.sh"), /Cannot read ".*none\.sh": it or its folder does not exist/],
      [folder, /Cannot read ".*": a file stands where a folder is expected/],
      [at("empty.sh", ""), /empty\.sh: no call of a training program/],
      [
        at("noise.sh", String.fromCharCode(...Array.from({ length: 999 }, (_, i) => i * 7 % 256))),
        /noise\.sh: no call/,
      ],
      [
        at("other.yaml", "a: 1\n"),
        /No known trainer has these settings: a\nHint: configs of these are read: train\.sh/,
      ],
      [at("bomb.yaml", "a: &a [1]\nb: *a\n"), /bomb\.yaml: cannot be read as YAML \(Alias resolution is disabled\)/],
      [at("broken.toml", "a = \n"), /broken\.toml: cannot be read as TOML \(Invalid TOML/],
      ["python train.py --frobnicate 1", /No known trainer has these settings: frobnicate/],
    ];
    for (const [given, says] of cases) {
      const { code, error, out } = await command(["config", "import", given]);
      assert.deepEqual([code, out], [2, ""], error);
      assert.match(error, says);
      assert.doesNotMatch(error, /\.ts:\d+/);
    }
    const to = at("mine.yaml", "seed: 1\n");
    const refused = await command(["config", "import", join(fixtures, "cogkit.yaml"), "--to", to]);
    assert.deepEqual([refused.code, readFileSync(to, "utf8")], [2, "seed: 1\n"]);
    const written = await command([
      "config",
      "import",
      join(fixtures, "cogkit.yaml"),
      "--to",
      join(folder, "new.yaml"),
    ]);
    assert.deepEqual([written.code, written.error], [0, ""]);
    assert.match(written.out, /^Read as cogkit: 17 settings taken over, 7 left out; ".*new\.yaml" says why$/m);
    assert.throws(() => readForeign("--x ".repeat(1 << 17), "long", "/"), UserError);
  }));
