/** What a micro-batch draws: from the posterior by its formula, and a timestep and noise of its own for every sample. */
import assert from "node:assert/strict";
import type { CachedTensor, SampleCache } from "../../../lib/data/cache/cache.ts";
import type { CacheKind, CacheRequest } from "../../../lib/data/cache/key.ts";
import { type Purpose, RandomStream } from "../../../lib/data/random/random.ts";
import { RELEASED } from "../../../lib/models/transformer/config.ts";
import { RELEASED_VAE } from "../../../lib/models/vae/config.ts";
import { type BatchSource, imageFactor, makeBatch, sampleLatent } from "../../../lib/train/data/batches.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import type { TrainingSample } from "../../../lib/train/data/prepare_data.ts";
import { numbers } from "../../kernels/run.ts";

Deno.test("sampleLatent() is (mean + exp(logvar / 2) n) s, frames first, with the first frame repeated in front", () => {
  // One channel, two frames of 1 x 2: means 1 2 | 3 4, log-variances 0 except ln 4 at the last value.
  const data = Float32Array.of(1, 2, 3, 4, 0, 0, 0, Math.log(4));
  const latent = sampleLatent({ shape: [2, 2, 1, 2], data }, Float32Array.of(1, 0, 0, 1), 0.5, 1);
  assert.deepEqual([...latent], [1, 1, 1, 1, 1.5, 3]);
});

Deno.test("makeBatch() draws per sample, repeats itself exactly, and fills a partial batch with weight 0", () => {
  const posterior = { shape: [32, 3, 2, 2], data: new Float32Array(32 * 3 * 4) };
  const source: BatchSource = {
    config: parseConfig("model: tiny-2b\nbatch_size: 2"),
    model: RELEASED["tiny-2b"]!,
    vae: RELEASED_VAE,
    cache: { read: () => posterior } as unknown as SampleCache,
    samples: [{ variants: [] }, { variants: [] }] as unknown as TrainingSample[],
    alphas: new Float64Array(1000).fill(0.5),
  };
  const items = (globalIndex: number) => [{ index: 0, globalIndex }, { index: 1, globalIndex: globalIndex + 1 }];
  const drawn = Array.from({ length: 200 }, (_, i) => makeBatch(source, items(2 * i)).timesteps).flat();
  assert.ok(new Set(drawn).size > 300, "400 draws of 1000 timesteps hit about 330 of them");
  assert.ok(Math.abs(drawn.reduce((sum, t) => sum + t, 0) / 400 - 499.5) < 5 * 288.7 / 20);
  const batch = makeBatch(source, items(0));
  assert.deepEqual(batch, makeBatch(source, items(0)));
  const half = batch.noise.length / 2;
  assert.notDeepEqual(batch.noise.slice(0, half), batch.noise.slice(half));
  const partial = makeBatch(source, items(0).slice(0, 1));
  assert.deepEqual(partial.weights, [1, 0]);
});

/** Numbers that differ from entry to entry, so that none can stand for another. */
function entry(shape: readonly number[], seed: number): CachedTensor {
  return { shape, data: numbers(shape.reduce((product, length) => product * length, 1), seed) };
}

const alphas = Float64Array.from({ length: 1000 }, (_, t) => 1 - (t + 0.5) / 1000);

/** Two clips of an image-to-video model of 1.5, whose 3 latent frames become 4, with the entries that are read by name. */
function imageSource(text: string) {
  const entries = new Map<string, CachedTensor>();
  const request = (kind: CacheKind, name: string, shape: readonly number[]): CacheRequest => {
    entries.set(name, entry(shape, entries.size + 1));
    return { kind, name, fields: {} };
  };
  const samples = [0, 1].map((index) => ({
    item: { index, prompt: "", name: `clip ${index}`, videoPath: "" },
    bucket: 3,
    latent: request("latent", `latent ${index}`, [32, 3, 2, 4]),
    prompt: request("prompt", `prompt ${index}`, [2, 4]),
    variants: [0, 1, 2, 3].map((variant) => request("image", `image ${index} ${variant}`, [32, 1, 2, 4])),
  }));
  const source: BatchSource = {
    config: parseConfig(`model: tiny-1.5-5b-i2v\nbatch_size: 2\nseed: 7\n${text}`),
    model: RELEASED["tiny-1.5-5b-i2v"]!,
    vae: { ...RELEASED_VAE, scaling_factor: 0.7, invert_scale_latents: true },
    cache: { read: ({ name }) => entries.get(name)! },
    samples,
    emptyPrompt: request("prompt", "empty", [2, 4]),
    alphas,
  };
  return { source, read: (name: string) => entries.get(name)!.data };
}

const items = [{ index: 1, globalIndex: 40 }, { index: 0, globalIndex: 41 }];
const plane = 2 * 4;

/** The normal numbers that sample 40 or 41 draws. */
function normals(purpose: Purpose, sample: number, count: number): Float32Array {
  return new RandomStream({ seed: 7, purpose, step: 0, sample }).fillNormals(new Float32Array(count));
}

/** (mean + exp(logvar / 2) n) factor of a posterior [32, frames, 2, 4], frames first. */
function sampled(posterior: Float32Array, draws: Float32Array, factor: number): number[] {
  const frames = posterior.length / 32 / plane;
  return Array.from({ length: posterior.length / 2 }, (_, to) => {
    const [frame, channel, i] = [Math.floor(to / 16 / plane), Math.floor(to / plane) % 16, to % plane];
    const from = (channel * frames + frame) * plane + i;
    return Math.fround(
      (posterior[from]! + Math.exp(0.5 * posterior[posterior.length / 2 + from]!) * draws[from]!) * factor,
    );
  });
}

Deno.test("makeBatch() puts together what its definition says, sample by sample", () => {
  const { source, read } = imageSource("image_scale: pipeline\nsnr_gamma: 5");
  const batch = makeBatch(source, items);
  const frame = 16 * plane;
  for (const [b, { index, globalIndex }] of items.entries()) {
    const part = (all: Float32Array) => [...all.subarray(b * 4 * frame, (b + 1) * 4 * frame)];
    const latents = sampled(read(`latent ${index}`), normals("posterior", globalIndex, 3 * frame), 0.7);
    assert.deepEqual(part(batch.latents), [...latents.slice(0, frame), ...latents], "the first frame twice");
    assert.deepEqual(part(batch.noise), [...normals("noise", globalIndex, 4 * frame)]);
    const draw = new RandomStream({ seed: 7, purpose: "augmentation", step: 1, sample: globalIndex });
    const image = read(`image ${index} ${draw.integer(4)}`);
    const condition = sampled(image, normals("imagePosterior", globalIndex, frame), 1 / 0.7);
    assert.deepEqual(part(batch.condition!), [...condition, ...new Array(3 * frame).fill(0)]);
    assert.deepEqual([...batch.text.subarray(8 * b, 8 * b + 8)], [...read(`prompt ${index}`)]);
    const t = new RandomStream({ seed: 7, purpose: "timestep", step: 0, sample: globalIndex }).integer(1000);
    assert.equal(batch.timesteps[b], t);
    assert.equal(batch.alphas[b], 1 - (t + 0.5) / 1000);
    assert.equal(batch.weights[b], Math.min(batch.alphas[b]!, 5 * (1 - batch.alphas[b]!)) / 2);
  }
  assert.deepEqual([batch.bucket, ...batch.draws!], [3, 7, 40, 0, 0]);
});

Deno.test("makeBatch() scales images as in training unless the pipeline's way is asked for", () => {
  const { source, read } = imageSource("");
  const { condition } = makeBatch(source, items);
  const draw = new RandomStream({ seed: 7, purpose: "augmentation", step: 1, sample: 40 });
  const expected = sampled(read(`image 1 ${draw.integer(4)}`), normals("imagePosterior", 40, 16 * plane), 0.7);
  assert.deepEqual([...condition!.subarray(0, 16 * plane)], expected);
  assert.equal(imageFactor(source.config, source.vae), 0.7);
  const pipeline = parseConfig("model: tiny-1.5-5b-i2v\nimage_scale: pipeline");
  assert.equal(imageFactor(pipeline, source.vae), 1 / 0.7);
  assert.equal(imageFactor(pipeline, { ...source.vae, invert_scale_latents: false }), 0.7);
});

Deno.test("makeBatch() draws the variant of an image for its batch where the noise is per batch", () => {
  /** Batches in which both samples have images of one variant. */
  const equal = (text: string) => {
    const { source, read } = imageSource(text);
    return Array.from({ length: 24 }, (_, i) => {
      const pair = items.map(({ index }, b) => ({ index, globalIndex: 2 * i + b }));
      const { condition } = makeBatch(source, pair);
      const variants = pair.map(({ index, globalIndex }, b) => {
        const found = [...condition!.subarray(b * 4 * 16 * plane, (b * 4 + 1) * 16 * plane)];
        const draws = normals("imagePosterior", globalIndex, 16 * plane);
        return [0, 1, 2, 3].findIndex((v) => `${sampled(read(`image ${index} ${v}`), draws, 0.7)}` === `${found}`);
      });
      assert.ok(!variants.includes(-1));
      return variants[0] === variants[1];
    }).filter(Boolean).length;
  };
  assert.equal(equal("image_noise: per_batch"), 24);
  // Binomial of 24 draws at 1/4: mean 6, deviation 2.1.
  assert.ok(Math.abs(equal("") - 6) < 9);
});

Deno.test("makeBatch() drops captions and images where it is told to", () => {
  const { source, read } = imageSource("caption_dropout: 1\ncondition_dropout: 1");
  const batch = makeBatch(source, items);
  assert.deepEqual([...batch.text], [...read("empty"), ...read("empty")]);
  assert.ok(batch.condition!.every((value) => value === 0));
});

Deno.test("a batch that is not full gives its samples the weights of a batch of their number", () => {
  const { source } = imageSource("");
  const three = { ...source, config: { ...source.config, batch_size: 3 } };
  assert.deepEqual(makeBatch(three, items).weights, [1 / 2, 1 / 2, 0]);
});
