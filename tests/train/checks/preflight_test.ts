/**
 * All mistakes of a run are told at once, by training, a dry run, a forecast and a check of the dataset alike, and before
 * anything is computed.
 */
import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "../../../lib/cli/commands/data_report.ts";
import { planReport } from "../../../lib/cli/commands/plan_report.ts";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { train } from "../../../lib/train/trainer.ts";
import { command } from "../../bad_input/command.ts";
import { configOf, inScratch } from "../runs.ts";

async function mistakesOf(run: () => Promise<unknown>): Promise<UserError> {
  const error = await run().then(() => assert.fail("expected mistakes"), (error) => error);
  assert.ok(error instanceof UserError, `${error}`);
  return error;
}

/** What `data check` lists as problems, thrown as the other commands do. */
async function problemsOfCheck(config: TrainConfig): Promise<void> {
  const { problems } = await checkData(config);
  if (problems.length > 0) throw new UserErrors("data check", problems);
}

/** A run with a wrong kind of model, a missing clip, and validation lists that do not fit. */
function wrongConfig(folder: string): TrainConfig {
  rmSync(join(folder, "clips/videos/ball.mp4"));
  writeFileSync(join(folder, "prompts.txt"), "one\n");
  writeFileSync(join(folder, "images.txt"), "../out.png\n/etc/passwd\n");
  return configOf(folder, {
    model: "tiny-5b-i2v",
    model_name: "cogvideox-i2v",
    do_validation: true,
    validation_dir: folder,
    validation_prompts: "prompts.txt",
    validation_images: "images.txt",
    validation_steps: 200,
    heldout_root: join(folder, "nowhere"),
  });
}

Deno.test("what is wrong with model, clips, held-out clips and validation lists comes in one list", () =>
  inScratch(async (folder) => {
    const config = wrongConfig(folder);
    const runs: Readonly<Record<string, () => Promise<unknown>>> = {
      train: () => Array.fromAsync(train(config)),
      "dry run": () => Array.fromAsync(train({ ...config, dry_run: true })),
      plan: () => planReport(config),
      "data check": () => problemsOfCheck(config),
    };
    for (const [name, run] of Object.entries(runs)) {
      const error = await mistakesOf(run);
      assert.ok(error instanceof UserErrors, name);
      assert.equal(error.problems.length, 4, `${name}: ${error.message}`);
      for (
        const expected of [
          /model_name is cogvideox-i2v, but .* is of a cogvideox-t2v model/,
          /videos\.txt line 1: "videos\/ball\.mp4" does not exist/,
          /nowhere: no such folder/,
          /1 validation prompts but 2 validation images/,
          /images\.txt line 1: "\.\.\/out\.png" leads out of the dataset folder/,
          /images\.txt line 2: "\/etc\/passwd" is an absolute path/,
        ]
      ) assert.match(error.message, expected, name);
    }
    assert.ok(!existsSync(config.output_dir));
    assert.ok(!existsSync(join(folder, "clips", "cache")));
  }));

Deno.test("one mistake alone is told as it is, and more tokens than kernels take are a mistake", () =>
  inScratch(async (folder) => {
    // 161 frames of 768x1360 of the 1.0 shape: 41 latent frames of 48 x 85 patches, and 226 tokens of text.
    const config = configOf(folder, { train_resolution: "161x768x1360" });
    const error = await mistakesOf(() => planReport(config));
    assert.ok(!(error instanceof UserErrors));
    assert.match(error.summary, new RegExp(`makes ${41 * 48 * 85 + 226} tokens .* at most 65535 are possible`));
  }));

Deno.test("without a model folder the dataset is looked at all the same", () =>
  inScratch(async (folder) => {
    rmSync(join(folder, "clips/videos/ball.mp4"));
    const config = { ...configOf(folder), model_path: join(folder, "none") };
    const error = await mistakesOf(() => Array.fromAsync(train(config)));
    assert.match(error.message, /"[^"]*none" does not exist[^]*"videos\/ball\.mp4" does not exist/);
  }));

Deno.test("too little memory is one of the mistakes, for a check, a dry run and a run that is refused anyway", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { gpu_memory: 0.001 });
    const says = /needs .* of GPU memory for .*, and 1\.0 MiB are available/;
    assert.match((await mistakesOf(() => problemsOfCheck(config))).message, says);
    assert.match((await mistakesOf(() => Array.fromAsync(train({ ...config, dry_run: true })))).message, says);
    rmSync(join(folder, "clips/videos/ball.mp4"));
    const { message } = await mistakesOf(() => Array.fromAsync(train(config)));
    assert.match(message, says);
    assert.match(message, /"videos\/ball\.mp4" does not exist/);
  }));

Deno.test("what is wrong with settings comes together with what is wrong with the files they name", () =>
  inScratch(async (folder) => {
    rmSync(join(folder, "clips/videos/ball.mp4"));
    writeFileSync(join(folder, "mine.yaml"), "rnak: 4\ntrain_resolution: 48x480x720\n");
    const words = [join(folder, "mine.yaml"), "--model=5b", `--data_root=${join(folder, "clips")}`];
    for (const name of ["train", "plan", "data check"]) {
      const { code, error, out } = await command([...name.split(" "), ...words]);
      assert.deepEqual([code, out], [2, ""], name);
      for (
        const expected of [
          /mine\.yaml:1:1: unknown key "rnak"; did you mean "rank"\?/,
          /mine\.yaml:2:19 train_resolution: 48 frames: expected 8N \+ 1/,
          /videos\.txt line 1: "videos\/ball\.mp4" does not exist/,
          ...(name === "train" ? [/model_path: not set/] : []),
        ]
      ) assert.match(error, expected, name);
      assert.match(error, new RegExp(`^error: Cannot use this config: ${name === "train" ? 4 : 3} problems$`, "m"));
    }
  }));
