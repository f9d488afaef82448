/** From a dataset folder to cached latents and prompt embeddings: everything the encoders are needed for, before training. */
import { join } from "node:path";
import { type CachePlan, describePlan, planCache, writeIndex } from "../../data/cache/plan.ts";
import { SampleCache } from "../../data/cache/cache.ts";
import { fillLatents } from "../../data/samples/cache_fill.ts";
import { type CacheFields, cacheKey, type CacheRequest } from "../../data/cache/key.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import { ffmpegVersion } from "../../data/video/ffmpeg.ts";
import { FileHashes } from "../../data/cache/file_hashes.ts";
import { normalise } from "../../data/video/normalise.ts";
import { RandomStream } from "../../data/random/random.ts";
import { decodePixels, prepareSample, type Sample } from "../../data/samples/sample_pixels.ts";
import { loadTokenizer } from "../../data/text/tokenizer.ts";
import { UserError, UserErrors } from "../../errors.ts";
import type { Device } from "../../gpu/device.ts";
import { Session } from "../../gpu/session.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { openTextEncoder } from "../../models/t5/encoder.ts";
import { openVae, type Vae } from "../../models/vae/vae.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { CacheEvent, WarningEvent } from "../report/events.ts";

/**
 * Noised versions of each condition image that are encoded and cached. The original trainer draws noise and runs the VAE in
 * every step; with a few versions to choose from the VAE leaves memory, and the posterior is still sampled afresh each step.
 */
export const IMAGE_VARIANTS = 4;

/** log sigma of the image noise is normal with this mean and deviation (median sigma 0.05). */
const LOG_SIGMA = { mean: -3, deviation: 0.5 };

/** Prompts encoded in one pass of the text encoder's weights. */
const PROMPT_BATCH = 16;

/** One sample of the dataset with the cache entries training reads. */
export interface TrainingSample extends Sample {
  /** Noised versions of the condition image, for image to video. */
  readonly variants: readonly CacheRequest[];
}

/** A dataset ready to be encoded. */
export interface PreparedData {
  readonly cache: SampleCache;
  readonly samples: readonly TrainingSample[];
  readonly plan: CachePlan;
  readonly warnings: readonly string[];
  /** Notes in the cache folder what was made from what; called when it is filled. */
  finish(): Promise<void>;
}

/** Reads and checks the whole dataset; decodes and encodes nothing. Throws UserErrors with every problem. */
export async function prepareData(config: TrainConfig, model: ModelFolder): Promise<PreparedData> {
  const images = config.model_type === "i2v";
  const root = config.data_root!;
  const dataset = await readDataset(root, {
    captionColumn: config.caption_column,
    videoColumn: config.video_column,
    images,
    idToken: config.id_token ?? "",
    ...(config.image_column === undefined ? {} : { imageColumn: config.image_column }),
  });
  const folder = config.cache_dir ?? join(root, "cache");
  const cache = new SampleCache(folder);
  const hashes = await FileHashes.open(folder);
  const [frames, height, width] = config.train_resolution;
  const settings = {
    frames,
    fps: config.fps,
    size: { width, height },
    frameRule: config.frame_selection,
    fit: config.crop === "fill" ? "crop" : config.crop,
    images,
    vae: { vae: await filesHash(hashes, model.vaeFiles), tiling: config.enable_tiling, compute: "f32" },
    textEncoder: {
      textEncoder: await filesHash(hashes, model.textEncoderFiles),
      tokens: model.transformer.max_text_seq_length,
    },
    ffmpeg: await ffmpegVersion(),
  } as const;
  const warnings = [...dataset.warnings];
  const problems: string[] = [];
  const samples: TrainingSample[] = [];
  for (const item of dataset.items) {
    try {
      const sample = await prepareSample(item, settings, hashes);
      if (sample.warning !== undefined) warnings.push(sample.warning);
      samples.push({ ...sample, variants: images ? imageVariants(config, sample) : [] });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      problems.push(error.message.replace("\nHint: ", "; "));
    }
  }
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot train on "${root}"`,
      problems,
      "cogtune data check lists every problem with its remedy",
    );
  }
  const requests = samples.flatMap(({ latent, prompt, variants }) => [latent, prompt, ...variants]);
  const plan = await planCache(cache, requests);
  return {
    cache,
    samples,
    plan,
    warnings,
    finish: async () => {
      await writeIndex(cache, requests);
      await hashes.save();
    },
  };
}

async function filesHash(hashes: FileHashes, files: readonly string[]): Promise<string> {
  return cacheKey({
    kind: "prompt",
    fields: Object.fromEntries(await Promise.all(files.map(async (file, i) => [`${i}`, await hashes.file(file)]))),
  });
}

function imageVariants(config: TrainConfig, { image, item }: Sample): CacheRequest[] {
  return Array.from({ length: IMAGE_VARIANTS }, (_, variant) => {
    // Per batch: all images share the strength of a variant, and a batch draws one variant for all its samples.
    const sample = config.image_noise === "per_batch" ? 0 : item.index;
    const noise: CacheFields = {
      noise: `seed ${config.seed} sample ${item.index} strength ${sample} variant ${variant}`,
    };
    return { ...image!.request, fields: { ...image!.request.fields, ...noise } };
  });
}

/** Options of {@linkcode fillCache}. */
export interface FillOptions {
  readonly signal?: AbortSignal | undefined;
  /** This process encodes every `size`-th sample from `rank` on; the others are encoded elsewhere. */
  readonly share?: { readonly rank: number; readonly size: number };
}

/** Encodes what the cache lacks, text first, then videos and images; each encoder has the GPU to itself. */
export async function* fillCache(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  data: PreparedData,
  { signal, share = { rank: 0, size: 1 } }: FillOptions = {},
): AsyncGenerator<CacheEvent | WarningEvent> {
  yield { type: "warning", message: `cache ${data.cache.folder}: ${describePlan(data.plan)}` };
  // Shares go by position in the dataset: what is missing changes while other processes fill the cache.
  const own = { ...data, samples: data.samples.filter((_, i) => i % share.size === share.rank) };
  yield* fillPrompts(device, config, model, own, signal);
  yield* fillVideos(device, config, model, own, signal);
  if (share.rank === 0) await data.finish();
  for (const { path, reason } of data.cache.damaged) {
    yield { type: "warning", message: `the cache entry ${path} was damaged and has been built again: ${reason}` };
  }
}

async function* fillPrompts(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  { cache, samples }: PreparedData,
  signal: AbortSignal | undefined,
): AsyncGenerator<CacheEvent | WarningEvent> {
  const distinct = new Map(samples.map((sample) => [cacheKey(sample.prompt), sample]));
  const missing = [...distinct.values()].filter(({ prompt }) => cache.read(prompt) === undefined);
  const total = distinct.size;
  const reused = total - missing.length;
  const progress = (done: number): CacheEvent => ({
    type: "cache",
    kind: "prompt",
    done: reused + done,
    total,
    reused,
  });
  yield progress(0);
  if (missing.length === 0) return;
  const tokenizer = loadTokenizer(join(model.path, "tokenizer"));
  const length = model.transformer.max_text_seq_length;
  using session = new Session(device, capOf(config));
  using encoder = openTextEncoder(session, model.path);
  for (let from = 0; from < missing.length; from += PROMPT_BATCH) {
    signal?.throwIfAborted();
    const batch = missing.slice(from, from + PROMPT_BATCH);
    for (const { item } of batch) {
      const { cutOff } = tokenizer.fit(item.prompt, length);
      if (cutOff === "") continue;
      yield {
        type: "warning",
        message: `the prompt of ${item.name} is longer than ${length} tokens; cut off: "${cutOff}"`,
      };
    }
    const embeddings = await encoder.encode(batch.map(({ item }) => tokenizer.encode(item.prompt, length)));
    for (const [i, data] of embeddings.entries()) {
      await cache.write(batch[i]!.prompt, { shape: [length, data.length / length], data });
    }
    yield progress(from + batch.length);
  }
}

async function* fillVideos(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  { cache, samples }: PreparedData,
  signal: AbortSignal | undefined,
): AsyncGenerator<CacheEvent> {
  const missing = samples.filter(({ latent, variants }) =>
    cache.read(latent) === undefined || variants.some((variant) => cache.read(variant) === undefined)
  );
  const total = samples.length;
  const reused = total - missing.length;
  yield { type: "cache", kind: "video", done: reused, total, reused };
  if (missing.length === 0) return;
  using session = new Session(device, capOf(config));
  using vae = openVae(session, model.path, config.enable_tiling ? {} : { tiling: false });
  const failures: string[] = [];
  for (const [i, sample] of missing.entries()) {
    signal?.throwIfAborted();
    try {
      const { image: _image, ...clip } = sample;
      await fillLatents(cache, [clip], async (data, shape) => moments(await vae.encode({ data, shape })), {
        ...(signal === undefined ? {} : { signal }),
      });
      await fillVariants(config, cache, vae, sample, signal);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      failures.push(error instanceof UserErrors ? error.problems.join("; ") : error.message.replace("\n", " "));
    }
    yield { type: "cache", kind: "video", done: reused + i + 1, total, reused };
  }
  if (failures.length > 0) {
    throw new UserErrors(
      "Some clips could not be encoded",
      failures,
      "mend or remove them; what could be encoded is cached",
    );
  }
}

/** Encodes noised versions of a condition image: I + sigma * noise, sigma log-normal (spec: training, section 4). */
async function fillVariants(
  config: TrainConfig,
  cache: SampleCache,
  vae: Vae,
  { image, item, variants }: TrainingSample,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const [variant, request] of variants.entries()) {
    if (cache.read(request) !== undefined) continue;
    const picture = await decodePixels(image!.picture, signal);
    const pixels = normalise(picture);
    const stream = (purpose: "imageSigma" | "imageNoise", sample: number) =>
      new RandomStream({ seed: config.seed, purpose, step: variant, sample });
    const strengthOf = config.image_noise === "per_batch" ? 0 : item.index;
    const [normal] = stream("imageSigma", strengthOf).fillNormals(new Float64Array(1));
    const sigma = Math.exp(LOG_SIGMA.mean + LOG_SIGMA.deviation * normal!);
    const noise = stream("imageNoise", item.index).fillNormals(new Float32Array(pixels.length));
    for (let i = 0; i < pixels.length; i++) pixels[i] = pixels[i]! + sigma * noise[i]!;
    await cache.write(
      request,
      moments(await vae.encode({ data: pixels, shape: [3, 1, picture.height, picture.width] })),
    );
  }
}

function moments(
  { mean, logvar }: Awaited<ReturnType<Vae["encode"]>>,
): { shape: number[]; data: Float32Array<ArrayBuffer> } {
  const data = new Float32Array(2 * mean.data.length);
  data.set(mean.data);
  data.set(logvar.data, mean.data.length);
  const [channels, ...rest] = mean.shape;
  return { shape: [2 * channels, ...rest], data };
}

/** Bytes of GPU memory the config allows. */
export function capOf({ gpu_memory }: TrainConfig): number {
  return gpu_memory === undefined ? Infinity : gpu_memory * 2 ** 30;
}
