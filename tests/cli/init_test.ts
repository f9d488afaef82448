/** `init`: questions answered by hand, by flags and wrongly; what it writes is what `train` reads. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../lib/config/config.ts";
import { recordForecast } from "../../lib/forecast/forecast.ts";
import { examples, inScratch } from "../train/runs.ts";
import { cli } from "./fakes.ts";

Deno.test("answers become a commented file that train takes unchanged", () =>
  inScratch(async (folder) => {
    const to = join(folder, "my run.yaml");
    const answers = ["5b", join(folder, "clips"), "", "12", "ohwx"];
    const { code, out, error } = await cli(["init", "--to", to], { answers });
    assert.equal(code, 0, error);
    assert.match(out, /^1\/5 Which model\?.*\[5b\]: 2\/5 .*3\/5 .*\[lora\]: 4\/5 .*\[24\]: 5\/5 .*\[none\]: Wrote /s);
    assert.match(out, /train --config '.*my run\.yaml'$/m);
    const text = readFileSync(to, "utf8");
    assert.match(text, /^# LoRA of CogVideoX-5b in 24 GiB, .*\npreset: 5b-lora\n/m);
    assert.match(text, /^data_root: clips$/m);
    const { config } = await loadConfig({ fileName: to });
    assert.equal(config.model_path, "THUDM/CogVideoX-5b");
    assert.deepEqual([config.id_token, config.gpu_memory, config.data_root], ["ohwx ", 12, join(folder, "clips")]);
    // The forecast in the file is that of the file.
    const { peakBytes } = recordForecast(config);
    assert.ok(peakBytes <= 12 * 2 ** 30);
    assert.ok(text.includes(`# Forecast: ${(peakBytes / 2 ** 30).toPrecision(3)} GiB of GPU memory`), text);
    const trained = await cli(["train", "--config", to]);
    assert.equal(trained.code, 0, trained.error);
    assert.deepEqual({ ...trained.trained[0], output_dir: "" }, { ...config, output_dir: "" });
  }));

Deno.test("flags answer beforehand, and a folder's model is read", () =>
  inScratch(async (folder) => {
    const to = join(folder, "flags.yaml");
    const model = join(examples, "tiny-2b");
    const words = [
      "--model",
      model,
      "--data",
      join(folder, "clips"),
      "--method",
      "sft",
      "--memory",
      "4",
      "--trigger",
      "",
    ];
    const { code, error } = await cli(["init", "--to", to, ...words]);
    assert.equal(code, 0, error);
    const { config } = await loadConfig({ fileName: to });
    assert.deepEqual([config.model_path, config.training_type, config.id_token], [model, "sft", undefined]);
    assert.equal((await cli(["plan", "--config", to])).code, 0);
  }));

Deno.test("wrong answers are asked again with the reason, at once", () =>
  inScratch(async (folder) => {
    const to = join(folder, "again.yaml");
    const answers = [
      ...["mochi", "2b"],
      ...["", join(folder, "nowhere"), join(folder, "clips")],
      ...["both", "LoRA"],
      ...["much", "0", "0.1", "16"],
      "",
    ];
    const { code, out, error } = await cli(["init", "--to", to], { answers });
    assert.equal(code, 0, error);
    for (
      const expected of [
        /"mochi" is neither a folder nor a model that is known; give a diffusers folder/,
        /There has to be an answer\./,
        /nowhere: no such folder/,
        /"both" is no way to train; answer lora or sft/,
        /"much" is no amount of memory/,
        /"0" is no amount of memory/,
        /No memory switches make this run fit 0\.1 GiB; it takes a GPU with more memory/,
      ]
    ) assert.match(out, expected);
    assert.equal((await loadConfig({ fileName: to })).config.gpu_memory, 16);
  }));

Deno.test("wrong flags are listed together, and an ended input names the flag that is missing", () =>
  inScratch(async (folder) => {
    const to = join(folder, "none.yaml");
    const wrong = await cli(["init", "--to", to, "--model", "mochi", "--method", "both", "--memory", "much"]);
    assert.equal(wrong.code, 2);
    assert.match(wrong.error, /3 problems\n {2}- --model: .*\n {2}- --method: .*\n {2}- --memory: .*\nHint: /);
    const ended = await cli(["init", "--to", to], { answers: ["2b"] });
    assert.equal(ended.code, 2);
    assert.match(
      ended.error,
      /^error: The input ended before question 2\/5 was answered\nHint: answer it with --data$/m,
    );
    assert.match((await cli(["init", "--to", join(folder, "x/y.yaml")])).error, /there is no folder/);
    assert.match((await cli(["init", "--to", join(folder, "y.json")])).error, /expected a name that ends in \.yaml/);
    assert.ok(!existsSync(to));
  }));

Deno.test("a file that exists is replaced when asked to, never otherwise", () =>
  inScratch(async (folder) => {
    const to = join(folder, "mine.yaml");
    writeFileSync(to, "mine");
    const words = ["init", "--to", to, "--model", "2b", "--data", join(folder, "clips"), "--method", "lora"];
    const rest = ["--memory", "16", "--trigger", ""];
    for (const answers of [[], ["n"], [""]]) {
      const { code, error } = await cli([...words, ...rest], { answers });
      assert.deepEqual([code, readFileSync(to, "utf8")], [2, "mine"]);
      assert.match(error, /exists and is left as it is\nHint: choose another file with --to, or add --overwrite/);
    }
    assert.equal((await cli([...words, ...rest], { answers: ["y"] })).code, 0);
    writeFileSync(to, "mine");
    assert.equal((await cli([...words, ...rest, "--overwrite"])).code, 0);
    assert.equal((await loadConfig({ fileName: to })).config.model, "2b");
  }));
