/**
 * Encodes the prompts, clips and pictures of a dataset into its cache, before training; each encoder has the GPU to
 * itself.
 */
import { join } from "node:path";
import { gpuMemoryLimit, type TrainConfig } from "../../config/config.ts";
import type { CachedTensor } from "../../data/cache/cache.ts";
import type { CacheKind, CacheRequest } from "../../data/cache/key.ts";
import { describePlan } from "../../data/cache/plan.ts";
import { RandomStream } from "../../data/random/random.ts";
import { type Encoder, fillCache, type FillOptions, type FillTask } from "../../data/samples/cache_fill.ts";
import { Decoder } from "../../data/samples/decoder.ts";
import type { PixelRecipe } from "../../data/samples/sample_pixels.ts";
import { loadTokenizer } from "../../data/text/tokenizer.ts";
import { normalise } from "../../data/video/normalise.ts";
import type { RgbFrames } from "../../data/video/video.ts";
import type { Device } from "../../gpu/device.ts";
import { Session } from "../../gpu/session.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { openTextEncoder } from "../../models/t5/encoder.ts";
import { openVae, type Posterior } from "../../models/vae/vae.ts";
import type { Volume } from "../../models/vae/volume.ts";
import type { CacheEvent, StatusEvent, WarningEvent } from "../report/events.ts";
import type { PreparedData } from "./prepare_data.ts";

/** log sigma of the image noise is normal with this mean and deviation (median sigma 0.05). */
const LOG_SIGMA = { mean: -3, deviation: 0.5 };

/** Prompts encoded in one pass of the text encoder's weights. */
const PROMPT_BATCH = 16;

/** What people call the entries of each kind. */
const EVENT_KINDS: Readonly<Record<CacheKind, CacheEvent["kind"]>> = {
  latent: "video",
  image: "image",
  prompt: "prompt",
};

/**
 * Pixels [3, F, H, W] in [-1, 1], as a function: while a clip waits for the GPU it is bytes, a quarter of these floats.
 */
type LazyPixels = () => Volume;

/** Hears what an encoder took of the GPU's memory. */
export type PeakListener = (phase: "text encoding" | "video encoding", gpuBytes: number) => void;

/** Encodes what the cache lacks. Throws UserErrors with all samples that could not be encoded. */
export async function* fillDataCache(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  data: PreparedData,
  { onPeak, ...options }: FillOptions & { readonly onPeak?: PeakListener } = {},
): AsyncGenerator<CacheEvent | StatusEvent | WarningEvent> {
  const { cache, plan } = data;
  await data.use();
  yield { type: "status", message: `cache ${cache.folder}: ${describePlan(plan)}` };
  await using decoder = new Decoder();
  for (
    const filling of [
      fillCache(cache, promptTasks(model, data), () => promptEncoder(device, config, model, onPeak), options),
      fillCache(
        cache,
        pixelTasks(config, data, decoder),
        () => pixelEncoder(device, config, model, onPeak),
        options,
      ),
    ]
  ) {
    for await (const { kind, ...counts } of filling) yield { type: "cache", kind: EVENT_KINDS[kind], ...counts };
  }
  if ((options.share?.rank ?? 0) === 0) {
    const { removed, bytes } = await data.finish();
    const size = `${(bytes / 2 ** 30).toFixed(2)} GiB`;
    if (removed > 0) {
      yield { type: "status", message: `cache ${cache.folder}: removed ${removed} unused entries, ${size}` };
    }
  }
  for (const { path, reason } of cache.damaged) {
    yield { type: "warning", message: `the cache entry ${path} was damaged and has been built again: ${reason}` };
  }
}

function promptTasks(model: ModelFolder, { samples, emptyPrompt }: PreparedData): FillTask<Int32Array>[] {
  const tokenizer = loadTokenizer(join(model.path, "tokenizer"));
  const length = model.transformer.max_text_seq_length;
  const task = (request: CacheRequest, text: string) => ({ request, prepare: () => tokenizer.encode(text, length) });
  return [
    ...samples.map(({ prompt, item }) => task(prompt, item.prompt)),
    ...(emptyPrompt === undefined ? [] : [task(emptyPrompt, "")]),
  ];
}

function promptEncoder(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  onPeak: PeakListener | undefined,
): Encoder<Int32Array> {
  const session = new Session(device, gpuMemoryLimit(config));
  const encoder = openTextEncoder(session, model.path);
  return {
    batch: PROMPT_BATCH,
    encode: async (prompts) => {
      const embeddings = await encoder.encode(prompts);
      return embeddings.map((data, i) => ({ shape: [prompts[i]!.length, data.length / prompts[i]!.length], data }));
    },
    [Symbol.dispose]() {
      onPeak?.("text encoding", session.peakBytes);
      encoder[Symbol.dispose]();
      session[Symbol.dispose]();
    },
  };
}

/** All clips, then the noised versions of all condition images. */
function pixelTasks(
  config: TrainConfig,
  { samples, requireUnchanged }: PreparedData,
  decoder: Decoder,
): FillTask<LazyPixels>[] {
  const decode = async (recipe: PixelRecipe, request: CacheRequest, signal: AbortSignal) => {
    const video = await decoder.decode(recipe, signal);
    await requireUnchanged(recipe, request);
    return video;
  };
  const clips = samples.map(({ latent, clip }): FillTask<LazyPixels> => ({
    request: latent,
    prepare: async (signal) => {
      const video = await decode(clip, latent, signal);
      return () => volumeOf(video);
    },
  }));
  const images = samples.flatMap(({ variants, image, item }) =>
    variants.map((request, variant): FillTask<LazyPixels> => ({
      request,
      prepare: async (signal) => {
        const picture = await decode(image!.picture, request, signal);
        return () => addImageNoise(config, volumeOf(picture), item.index, variant);
      },
    }))
  );
  return [...clips, ...images];
}

function volumeOf(video: RgbFrames): Volume {
  return { data: normalise(video), shape: [3, video.frames, video.height, video.width] };
}

/** I + sigma * noise, sigma log-normal, as the original trainer draws both in every step. */
function addImageNoise(config: TrainConfig, image: Volume, sample: number, variant: number): Volume {
  const stream = (purpose: "imageSigma" | "imageNoise", sample: number) =>
    new RandomStream({ seed: config.seed, purpose, step: variant, sample });
  const strengthOf = config.image_noise === "per_batch" ? 0 : sample;
  const [normal] = stream("imageSigma", strengthOf).fillNormals(new Float64Array(1));
  const sigma = Math.exp(LOG_SIGMA.mean + LOG_SIGMA.deviation * normal!);
  const noise = stream("imageNoise", sample).fillNormals(new Float32Array(image.data.length));
  return { ...image, data: image.data.map((value, i) => value + sigma * noise[i]!) };
}

function pixelEncoder(
  device: Device,
  config: TrainConfig,
  model: ModelFolder,
  onPeak: PeakListener | undefined,
): Encoder<LazyPixels> {
  const session = new Session(device, gpuMemoryLimit(config));
  const vae = openVae(session, model.path, config.enable_tiling ? {} : { tiling: false });
  return {
    batch: 1,
    encode: async (videos) => {
      const contents: CachedTensor[] = [];
      for (const pixels of videos) contents.push(momentsOf(await vae.encode(pixels())));
      return contents;
    },
    [Symbol.dispose]() {
      onPeak?.("video encoding", session.peakBytes);
      vae[Symbol.dispose]();
      session[Symbol.dispose]();
    },
  };
}

/** Mean and log-variance in one tensor [2C, f, h, w]. */
function momentsOf({ mean, logvar }: Posterior): CachedTensor {
  const data = new Float32Array(2 * mean.data.length);
  data.set(mean.data);
  data.set(logvar.data, mean.data.length);
  const [channels, ...rest] = mean.shape;
  return { shape: [2 * channels, ...rest], data };
}
