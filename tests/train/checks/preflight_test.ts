/** All mistakes of a run are told at once, by training, a dry run and a forecast alike, and before anything is computed. */
import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { planReport } from "../../../lib/cli/commands/plan_report.ts";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { train } from "../../../lib/train/trainer.ts";
import { configOf, inScratch } from "../runs.ts";

async function mistakesOf(run: () => Promise<unknown>): Promise<UserError> {
  const error = await run().then(() => assert.fail("expected mistakes"), (error) => error);
  assert.ok(error instanceof UserError, `${error}`);
  return error;
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
