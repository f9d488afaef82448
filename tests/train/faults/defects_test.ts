/** Fourteen defects that users of the earlier CogVideoX trainers know, by letter, and what happens here instead. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheKey } from "../../../lib/data/cache/key.ts";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { selectFrames } from "../../../lib/data/video/frames.ts";
import { createSampler } from "../../../lib/data/random/sampler.ts";
import { alphasCumprod, parseScheduleConfig } from "../../../lib/diffusion/schedule.ts";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import { bf16ToF32, f32ToBf16 } from "../../../lib/io/safetensors/half.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { declareLora, initialLora } from "../../../lib/models/lora/adapters.ts";
import { writeLora } from "../../../lib/models/lora/file.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { type ModelFolder, openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { parameterShapes } from "../../../lib/models/transformer/config.ts";
import { mergeLoras } from "../../../lib/models/lora/stack.ts";
import { SamplePage } from "../../../lib/sample/page.ts";
import { makeBatch } from "../../../lib/train/data/batches.ts";
import { findCheckpoint } from "../../../lib/train/checkpoint/checkpoint.ts";
import { parseConfig, type TrainConfig } from "../../../lib/config/config.ts";
import { fillDataCache } from "../../../lib/train/data/fill_cache.ts";
import { prepareData, type PreparedData } from "../../../lib/train/data/prepare_data.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";
import { describeRun, namedTransformer } from "../../../lib/step/run_description.ts";
import { numbers, testDevice } from "../../kernels/run.ts";
import { collect, configOf, examples, inScratch } from "../runs.ts";

/** What is wrong with a config. */
function problemsOf(text: string): string {
  try {
    parseConfig(text);
  } catch (error) {
    if (error instanceof UserErrors) return error.message;
    throw error;
  }
  return "";
}

/** The example model with the transformer config of another variant: what reads data, without weights that fit it. */
function modelOf(config: TrainConfig): ModelFolder {
  return { ...openModelFolder(join(examples, "tiny-2b")), transformer: namedTransformer(config) };
}

Deno.test("a: a LoRA file carries alpha, so it is applied at the strength it was trained with", () =>
  inScratch(async (folder) => {
    const base = openModelFolder(join(examples, "tiny-2b")).transformer;
    const config = { rank: 4, alpha: 2, targets: ["to_q"] };
    const values = new Map(initialLora(declareLora(parameterShapes(base), config), (count) => new Float64Array(count)));
    for (const [name, { length }] of values) values.set(name, numbers(length));
    const file = readLora(await writeLora(folder, values, { config, base }));
    assert.deepEqual([file.alphaStored, file.alpha, file.rank], [true, 2, 4]);
    for (const [layer, { up }] of mergeLoras([{ modules: file.modules, strength: 1 }])) {
      assert.deepEqual(up, values.get(`${layer}.lora_B.weight`)!.map((value) => value / 2), layer);
    }
  }));

Deno.test("b: a size that the learned positions of 5b-i2v cannot do is refused, by whatever name the model goes", () => {
  const size = "train_resolution: 49x512x768\noutput_dir: out\n";
  for (const model of ["model: 5b-i2v", "model_path: owner/CogVideoX-5b-I2V", "model_path: models/CogVideoX-5b-I2V"]) {
    assert.match(problemsOf(`${model}\nmodel_name: cogvideox-i2v\n${size}`), /512x768[^]*480x720 only/);
  }
  assert.equal(problemsOf("model: 5b-i2v\ntrain_resolution: 49x480x720\noutput_dir: out\n"), "");
});

Deno.test("c: the cache lies where the run says, or where cache_dir puts it, and nowhere else", () =>
  inScratch(async (folder) => {
    const { device } = await testDevice();
    for (const extra of [{}, { cache_dir: join(folder, "elsewhere") }]) {
      const config = configOf(folder, extra);
      const model = openModelFolder(config.model_path!);
      const data = await prepareData(config, model);
      const expected = config.cache_dir ?? join(folder, "clips", "cache");
      assert.equal(data.cache.folder, expected);
      const { value } = await fillDataCache(device, config, model, data).next();
      assert.ok(JSON.stringify(value).includes(`cache ${expected}: 0 reused, 8 new`));
    }
  }));

Deno.test("d: clips of one file name and prompts cut at another length have cache entries of their own", () =>
  inScratch(async (folder) => {
    const clips = join(folder, "clips");
    for (const [name, clip] of [["a", "ball"], ["b", "sunset"]] as const) {
      cpSync(join(clips, "videos", `${clip}.mp4`), join(clips, name, "x.mp4"));
    }
    writeFileSync(join(clips, "videos.txt"), "a/x.mp4\nb/x.mp4\n");
    writeFileSync(join(clips, "prompts.txt"), "one\none\n");
    const config = configOf(folder);
    const model = openModelFolder(config.model_path!);
    const { samples } = await prepareData(config, model);
    const keys = (pick: "latent" | "prompt", of = samples) => of.map((sample) => cacheKey(sample[pick]));
    assert.equal(new Set(keys("latent")).size, 2);
    assert.equal(new Set(keys("prompt")).size, 1);
    const transformer = { ...model.transformer, max_text_seq_length: 224 };
    const shorter = (await prepareData(config, { ...model, transformer })).samples;
    assert.notEqual(keys("prompt", shorter)[0], keys("prompt")[0]);
    assert.deepEqual(keys("latent", shorter), keys("latent"));
  }));

Deno.test("e: motion has the speed of the model's frame rate, whatever the length and rate of the clip", () => {
  for (const [frames, fps] of [[49, 8], [97, 8], [98, 8], [97, 16], [98, 16], [147, 24], [200, 30]] as const) {
    const { indices } = selectFrames({ frames, fps }, { frames: 49, fps: 8 });
    for (const [k, index] of indices.entries()) {
      assert.ok(Math.abs(index / fps - k / 8) <= 0.5 / fps + 1e-9, `${frames} frames at ${fps}/s: entry ${k}`);
    }
  }
});

Deno.test("f: a blank line in prompts.txt is an error with its number, and never shifts prompts against clips", () =>
  inScratch(async (folder) => {
    const clips = join(folder, "clips");
    const [first, , third, fourth] = readFileSync(join(clips, "prompts.txt"), "utf8").split("\n");
    // As many prompts as clips once the blank line is dropped.
    writeFileSync(join(clips, "prompts.txt"), [first, "", third, fourth, "a fifth", ""].join("\n"));
    await assert.rejects(
      readDataset(clips),
      (error: unknown) => error instanceof UserErrors && /prompts\.txt line 2: is blank/.test(error.message),
    );
  }));

Deno.test("g: a checkpoint that is not there is an error, and never a run from the beginning", () =>
  inScratch(async (folder) => {
    await assert.rejects(findCheckpoint(join(folder, "checkpoint-99"), folder), /checkpoint-99" does not exist/);
    await assert.rejects(findCheckpoint("latest", folder), /holds no checkpoint/);
    for (const resume of ["latest", join(folder, "run", "checkpoint-9")]) {
      await assert.rejects(collect(configOf(folder, { resume_from_checkpoint: resume })), UserError);
      assert.equal(existsSync(join(folder, "run")), false);
    }
  }));

Deno.test("h: a continued run sees the clips that are left of its epoch, with the noise they would have had", () => {
  const sampler = createSampler({ samples: 5, batchSize: 1, accumulation: 2, seed: 3 });
  const itemsFrom = (step: number) => {
    const all = Array.from({ length: 3 * sampler.microStepsPerEpoch }, (_, number) => sampler.microStep(number));
    return all.slice(sampler.firstMicroStep(step)).flatMap(({ items }) => items);
  };
  const whole = itemsFrom(0);
  for (const epoch of [0, 1, 2]) {
    const seen = whole.slice(5 * epoch, 5 * epoch + 5).map(({ index }) => index);
    assert.deepEqual(seen.toSorted(), [0, 1, 2, 3, 4]);
  }
  // Epochs of 3 optimizer steps with 2, 2 and 1 clips.
  assert.deepEqual([1, 2, 3, 4].map((step) => sampler.firstMicroStep(step)), [2, 4, 5, 7]);
  for (const step of [1, 2, 3, 4]) assert.deepEqual(itemsFrom(step), whole.slice(sampler.firstMicroStep(step)));
  assert.deepEqual(whole.map(({ globalIndex }) => globalIndex), whole.map((_, i) => i));
});

Deno.test("i: rank and lora_alpha of a YAML file take effect, and a misspelt key is an error with the right name", () => {
  const config = parseConfig("model: tiny-2b\nrank: 16\nlora_alpha: 8\noutput_dir: out\n");
  const { lora } = describeRun(config, namedTransformer(config));
  assert.deepEqual([lora!.config.rank, lora!.config.alpha], [16, 8]);
  assert.match(problemsOf("model: tiny-2b\nlora_alhpa: 8\noutput_dir: out\n"), /lora_alhpa[^]*lora_alpha/);
});

Deno.test("j and k: the last steps are saved, and small updates of a bf16 run are not rounded away", () =>
  inScratch(async (folder) => {
    const weights = async (learning_rate: number) => {
      const output_dir = join(folder, `rate-${learning_rate}`);
      const settings = { learning_rate, output_dir, lr_warmup_steps: 0, mixed_precision: "bf16" };
      await collect(configOf(folder, { ...settings, train_steps: 3, checkpointing_steps: 2 }));
      assert.ok(existsSync(join(output_dir, "checkpoint-2")) && existsSync(join(output_dir, "checkpoint-3")));
      using file = openSafetensors(join(output_dir, "checkpoint-3", "pytorch_lora_weights.safetensors"));
      const names = [...file.tensors.keys()].filter((name) => name.includes("lora_A"));
      return Float32Array.from(names.flatMap((name) => [...file.readF32(name)]));
    };
    const [before, after] = [await weights(0), await weights(2e-5)];
    const changed = before.filter((value, i) => after[i] !== value).length;
    assert.ok(changed > 0.99 * before.length, `${changed} of ${before.length} values changed`);
    // The same updates added to bf16 weights, as trainers do that cast the adapters.
    const cast = bf16ToF32(f32ToBf16(before));
    const sums = bf16ToF32(f32ToBf16(cast.map((value, i) => value + after[i]! - before[i]!)));
    const lost = sums.filter((value, i) => value === cast[i]).length;
    assert.ok(lost > 0.5 * before.length, `bf16 weights would lose ${lost} of ${before.length} updates`);
  }));

/** Image-to-video data with made-up cache entries: everything a batch needs, without VAE and GPU. */
async function imageData(
  folder: string,
  extra: Record<string, unknown>,
): Promise<PreparedData & { readonly config: TrainConfig; readonly model: ModelFolder }> {
  const config = configOf(folder, { model: "tiny-5b-i2v", model_name: "cogvideox-i2v", ...extra });
  const model = modelOf(config);
  const data = await prepareData(config, model);
  const { max_text_seq_length: tokens, text_embed_dim: width } = model.transformer;
  // 9 frames of 32 x 48 pixels are 3 latent frames of 4 x 6.
  const shapes = { latent: [32, 3, 4, 6], image: [32, 1, 4, 6], prompt: [tokens, width] };
  const requests = data.samples.flatMap(({ latent, prompt, variants }) => [latent, prompt, ...variants]);
  for (const [seed, request] of requests.entries()) {
    const shape = shapes[request.kind];
    await data.cache.write(request, { shape, data: numbers(shape.reduce((a, b) => a * b, 1), seed + 1) });
  }
  return { ...data, config, model };
}

/** Condition latents of the first micro-steps. */
function conditions(
  { config, model, cache, samples }: Awaited<ReturnType<typeof imageData>>,
  steps: number,
): Float32Array[] {
  const alphas = alphasCumprod(parseScheduleConfig(model.scheduler, "scheduler"));
  const source = { config, model: model.transformer, vae: model.vae, cache, samples, alphas };
  const { batch_size: batchSize, seed } = config;
  const sampler = createSampler({ samples: samples.length, batchSize, accumulation: 1, seed });
  return Array.from({ length: steps }, (_, number) => {
    const step = sampler.microStep(number);
    return makeBatch(source, step.items).condition!;
  });
}

Deno.test("l: first frames are encoded once, before training: no step of image to video needs the VAE", () =>
  inScratch(async (folder) => {
    const data = await imageData(folder, {});
    const frame = 16 * 4 * 6;
    for (const condition of conditions(data, 8)) {
      assert.ok(condition.subarray(0, frame).some((value) => value !== 0));
      assert.ok(condition.subarray(frame).every((value) => value === 0));
    }
    const again = await prepareData(data.config, data.model);
    assert.deepEqual([again.plan.new.length, again.plan.changed.length], [0, 0]);
  }));

Deno.test("m: every sample draws its own strength of image noise, and conditions can be dropped", () =>
  inScratch(async (folder) => {
    const strengths = async (extra: Record<string, unknown>) => {
      const { samples } = await imageData(folder, extra);
      return new Set(samples.map(({ variants }) => /strength (\d+)/.exec(`${variants[0]!.fields.noise}`)![1])).size;
    };
    assert.deepEqual([await strengths({}), await strengths({ image_noise: "per_batch" })], [4, 1]);
    const dropped = async (condition_dropout: number, draws: number) => {
      const all = conditions(await imageData(folder, { condition_dropout }), draws);
      return all.filter((condition) => condition.every((value) => value === 0)).length;
    };
    assert.deepEqual([await dropped(0, 8), await dropped(1, 8)], [0, 8]);
    // Binomial of 100 draws at 0.25: mean 25, deviation 4.3; five deviations.
    assert.ok(Math.abs(await dropped(0.25, 100) - 25) < 22);
  }));

Deno.test("n: a run reports to what was asked for alone, and its videos are on a page in every case", () =>
  inScratch(async (folder) => {
    for (const [report_to, expected] of [["none", []], ["tensorboard", ["tensorboard"]]] as const) {
      const config = configOf(folder, { report_to, output_dir: join(folder, report_to) });
      new RunRecords(config, 0)[Symbol.dispose]();
      assert.deepEqual(readdirSync(config.output_dir).sort(), ["index.html", "metrics.jsonl", ...expected]);
    }
    const page = new SamplePage(folder, "Validation samples");
    await page.add({
      prompt: "a <ball>",
      seed: 1,
      step: 7,
      file: join(folder, "video.mp4"),
      image: undefined,
      details: "",
    });
    const html = readFileSync(join(folder, "index.html"), "utf8");
    assert.match(html, /<video[^>]*video\.mp4/);
    assert.match(html, /a &lt;ball&gt;/);
  }));
