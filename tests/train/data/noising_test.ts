/** How samples are noised: the distributions of what is drawn, and the weights of the loss. */
import assert from "node:assert/strict";
import { parseConfig, type TrainConfig } from "../../../lib/config/config.ts";
import { RandomStream } from "../../../lib/data/random/random.ts";
import { alphasCumprod, parseScheduleConfig } from "../../../lib/diffusion/schedule.ts";
import {
  drawNoise,
  drawTimestep,
  dropsCaption,
  lossWeight,
  requireTimesteps,
} from "../../../lib/train/data/noising.ts";
import type { StepEvent } from "../../../lib/train/report/events.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const lossesOf = async (run: TrainConfig) =>
  (await collect(run)).filter((event): event is StepEvent => event.type === "step").map(({ loss }) => loss);

const config = (text = ""): TrainConfig => parseConfig(`model: tiny-2b\nseed: 7\n${text}`);

/** Largest distance between the share of draws below the end of a timestep and `cdf` there (Kolmogorov and Smirnov). */
function distance(config: TrainConfig, cdf: (place: number) => number): number {
  const draws = 20_000;
  const counts = new Array<number>(1000).fill(0);
  for (let sample = 0; sample < draws; sample++) counts[drawTimestep(config, 1000, sample)]!++;
  let below = 0;
  return Math.max(...counts.map((count, t) => Math.abs((below += count) / draws - cdf((t + 1) / 1000))));
}

/** Standard normal distribution function; Abramowitz and Stegun 7.1.26, to 1.5e-7. */
function normalCdf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x) / Math.SQRT2);
  const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const tail = series * Math.exp(-x * x / 2) / 2;
  return x < 0 ? tail : 1 - tail;
}

// 1.95 / sqrt(n) is passed by one of a thousand sets of draws.
const bound = 1.95 / Math.sqrt(20_000);

Deno.test("uniform timesteps are the plain draws of the seed, and fill a band evenly", () => {
  const draw = (sample: number) => new RandomStream({ seed: 7, purpose: "timestep", step: 0, sample }).integer(1000);
  for (let sample = 0; sample < 100; sample++) assert.equal(drawTimestep(config(), 1000, sample), draw(sample));
  const band = config("timestep_min: 200\ntimestep_max: 499");
  assert.ok(distance(band, (place) => Math.min(1, Math.max(0, (place - 0.2) / 0.3))) < bound);
});

for (const [mean, std] of [[0, 1], [-0.7, 0.5], [1.2, 2]] as const) {
  Deno.test(`logit-normal timesteps follow their distribution: mean ${mean}, deviation ${std}`, () => {
    const drawn = config(
      `timestep_sampling: logit_normal\ntimestep_logit_mean: ${mean}\ntimestep_logit_std: ${std}`,
    );
    assert.ok(distance(drawn, (place) => normalCdf((Math.log(place / (1 - place)) - mean) / std)) < bound);
    const band = { ...drawn, timestep_min: 500 };
    const within = (place: number) => normalCdf((Math.log(place / (1 - place)) - mean) / std);
    assert.ok(distance(band, (place) => place <= 0.5 ? 0 : within(2 * place - 1)) < bound);
  });
}

Deno.test("a schedule that ends before the band is refused", () => {
  assert.throws(() => requireTimesteps(config("timestep_max: 999"), 500), /reach timestep 999.* has 0 to 499/);
  assert.throws(() => requireTimesteps(config("timestep_min: 500"), 500), /reach timestep 500/);
  requireTimesteps(config(), 500);
  assert.throws(() => config("timestep_min: 10\ntimestep_max: 9"), /timestep_max: 9: expected at least timestep_min/);
  assert.throws(() => config("timestep_max: 1000"), /whole number from 0 to 999/);
});

Deno.test("the noise offset is one normal number for all of a sample's channel", () => {
  const shape = { frames: 3, channels: 16, plane: 6 };
  const plain = drawNoise(config(), shape, 0);
  const stream = new RandomStream({ seed: 7, purpose: "noise", step: 0, sample: 0 });
  assert.deepEqual(plain, stream.fillNormals(new Float32Array(3 * 16 * 6)));
  const shifts: number[] = [];
  for (let sample = 0; sample < 500; sample++) {
    const drawn = new RandomStream({ seed: 7, purpose: "noise", step: 1, sample }).fillNormals(new Float32Array(16));
    const base = drawNoise(config(), shape, sample);
    const shifted = drawNoise(config("noise_offset: 0.1"), shape, sample);
    for (let channel = 0; channel < 16; channel++) {
      const differences = Array.from({ length: 18 }, (_, i) => {
        const at = (Math.floor(i / 6) * 16 + channel) * 6 + i % 6;
        return shifted[at]! - base[at]!;
      });
      const [shift] = differences;
      assert.ok(differences.every((difference) => Math.abs(difference - shift!) < 1e-6));
      assert.ok(Math.abs(shift! - 0.1 * drawn[channel]!) < 1e-6, "every channel has a number of its own");
      shifts.push(shift!);
    }
  }
  const mean = shifts.reduce((sum, shift) => sum + shift, 0) / shifts.length;
  const deviation = Math.sqrt(shifts.reduce((sum, shift) => sum + shift * shift, 0) / shifts.length);
  assert.ok(Math.abs(mean) < 4 * 0.1 / Math.sqrt(8000) && Math.abs(deviation - 0.1) < 4 * 0.1 / Math.sqrt(16000));
});

Deno.test("min-SNR weights: min(SNR, gamma) / (SNR + 1)", () => {
  const weight = (alpha: number) => lossWeight(config("snr_gamma: 5"), alpha);
  // SNR 1, 99 and, at the end of a schedule with zero terminal SNR, 0.
  assert.deepEqual([weight(0.5), weight(0), lossWeight(config(), 0)], [0.5, 0, 1]);
  assert.ok(Math.abs(weight(0.99) - 5 / 100) < 1e-15);
  // SNR 5, where the two meet.
  assert.ok(Math.abs(weight(5 / 6) - 5 / 6) < 1e-15);
});

Deno.test("a training step at gamma 2 reports the plain loss times its timestep's weight", () =>
  inScratch(async (folder) => {
    const one = { train_steps: 1, timestep_max: 100, cache_dir: `${folder}/cache` };
    const losses: number[] = [];
    for (const extra of [{}, { snr_gamma: 2 }]) {
      const run = configOf(folder, { ...one, ...extra, output_dir: `${folder}/run ${losses.length}` });
      losses.push(...await lossesOf(run));
    }
    const run = configOf(folder, one);
    const json = JSON.parse(Deno.readTextFileSync(`${run.model_path}/scheduler/scheduler_config.json`));
    const alpha = alphasCumprod(parseScheduleConfig(json, "scheduler_config.json"))[drawTimestep(run, 1000, 0)]!;
    const snr = alpha / (1 - alpha);
    assert.ok(snr > 2, "the timestep's weight is not its alpha");
    assert.ok(Math.abs(losses[1]! / losses[0]! - 2 / (snr + 1)) < 1e-6);
  }));

Deno.test("captions are dropped as often as asked", () => {
  const dropped = (text: string) => {
    const read = config(text);
    return Array.from({ length: 10_000 }, (_, i) => dropsCaption(read, i));
  };
  const share = dropped("caption_dropout: 0.1").filter(Boolean).length / 10_000;
  assert.ok(Math.abs(share - 0.1) < 4 * Math.sqrt(0.1 * 0.9 / 10_000), `${share}`);
  assert.deepEqual([dropped("").some(Boolean), dropped("caption_dropout: 1").every(Boolean)], [false, true]);
});

Deno.test("where every caption is dropped, the captions do not matter", () =>
  inScratch(async (folder) => {
    const losses: number[] = [];
    for (const dropout of [1, 1, 0]) {
      const one = { train_steps: 1, cache_dir: `${folder}/cache`, output_dir: `${folder}/run ${losses.length}` };
      losses.push(...await lossesOf(configOf(folder, { ...one, caption_dropout: dropout })));
      const prompts = `${folder}/clips/prompts.txt`;
      Deno.writeTextFileSync(prompts, Deno.readTextFileSync(prompts).replaceAll(/^(?=.)/gm, "Suddenly: "));
    }
    assert.equal(losses.length, 3);
    assert.equal(losses[0], losses[1]);
    assert.notEqual(losses[0], losses[2]);
  }));
