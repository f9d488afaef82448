/** The held-out loss in numbers: fixed timesteps and noise, whatever training does to its own. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { alphasCumprod, parseScheduleConfig } from "../../../lib/diffusion/schedule.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { HeldOut } from "../../../lib/train/checks/held_out.ts";
import { makeBatch } from "../../../lib/train/data/batches.ts";
import type { HeldOutEvent } from "../../../lib/train/report/events.ts";
import { silentModel } from "../../silent_model.ts";
import { collect, configOf, inScratch } from "../runs.ts";

Deno.test("of a model that predicts zero it is the mean square of the velocity, at the middle of eighths of the schedule", () =>
  inScratch(async (folder) => {
    const heldout_root = join(folder, "held");
    cpSync(join(folder, "clips"), heldout_root, { recursive: true });
    // What training draws and weighs otherwise is not for clips that are measured.
    const training = { noise_offset: 0.3, snr_gamma: 0.1, caption_dropout: 0.5, timestep_max: 400 };
    const settings = { model_path: silentModel(folder), heldout_root, train_steps: 1, learning_rate: 0, ...training };
    const config = configOf(folder, settings);
    const events = await collect(config);
    const [measured] = events.filter((event): event is HeldOutEvent => event.type === "heldout");

    const model = openModelFolder(config.model_path!);
    const alphas = alphasCumprod(parseScheduleConfig(model.scheduler, "scheduler"));
    using held = (await HeldOut.prepare(configOf(folder, { heldout_root }), model, { estimate: false }))!;
    const { samples, cache } = held.data;
    const source = { config: held.config, model: model.transformer, vae: model.vae, samples, cache, alphas };
    const bands = [0, 0, 0, 0];
    for (let place = 0; place < samples.length * 8; place++) {
      const { latents, noise } = makeBatch(source, [{ index: Math.floor(place / 8), globalIndex: place }]);
      // Eight timesteps, two to each of the four bands: 62, 187, 312 ...
      const a = alphas[Math.floor(1000 * (place % 8 + 0.5) / 8)]!;
      const squares = latents.map((z, i) => (Math.sqrt(a) * noise[i]! - Math.sqrt(1 - a) * z) ** 2);
      const mean = squares.reduce((sum, square) => sum + square, 0) / squares.length;
      bands[Math.floor(place % 8 / 2)]! += mean / (2 * samples.length);
    }
    const distance = (found: number, expected: number) => Math.abs(found / expected - 1);
    assert.equal(measured!.bands.length, 4);
    for (const [i, { loss }] of measured!.bands.entries()) assert.ok(distance(loss, bands[i]!) < 1e-5, `band ${i}`);
    assert.ok(distance(measured!.loss, bands.reduce((sum, band) => sum + band, 0) / 4) < 1e-5);
  }));

Deno.test("images and captions of held-out clips are never dropped", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, {
      model: "tiny-5b-i2v",
      model_name: "cogvideox-i2v",
      condition_dropout: 1,
      caption_dropout: 1,
      heldout_root: join(folder, "clips"),
    });
    using held = await HeldOut.prepare(config, openModelFolder(config.model_path!), { estimate: false });
    const { condition_dropout, caption_dropout } = held!.config;
    assert.deepEqual([condition_dropout, caption_dropout, held!.data.emptyPrompt], [0, 0, undefined]);
  }));
