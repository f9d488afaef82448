/** From a dataset folder to the list of cache entries that training reads; nothing is decoded or encoded. */
import { join } from "node:path";
import pLimit from "p-limit";
import type { TrainConfig } from "../../config/config.ts";
import { SampleCache } from "../../data/cache/cache.ts";
import { type Collected, collectGarbage } from "../../data/cache/collect.ts";
import { FileHashes } from "../../data/cache/file_hashes.ts";
import { type CacheFields, cacheKey, type CacheRequest } from "../../data/cache/key.ts";
import { type CachePlan, planCache, writeIndex } from "../../data/cache/plan.ts";
import { useEntries } from "../../data/cache/usage.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import {
  type EncodingSettings,
  type PixelRecipe,
  prepareSample,
  type Sample,
} from "../../data/samples/sample_pixels.ts";
import { promptLengthNotes } from "../../data/text/prompt_length.ts";
import { loadTokenizer } from "../../data/text/tokenizer.ts";
import { ffmpegVersion } from "../../data/video/ffmpeg.ts";
import { problemOf, UserError, UserErrors } from "../../errors.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { datasetOptions, shapeOptions } from "./dataset_options.ts";
import { type EntryShapes, entryShapes } from "./entry_shapes.ts";

/**
 * Noised versions of each condition image that are encoded and cached. The original trainer draws noise and runs the
 * VAE in every step; with a few versions to choose from the VAE leaves memory, and the posterior is still sampled
 * afresh each step.
 */
export const IMAGE_VARIANTS = 4;

/** Clips that are probed and hashed side by side; beyond four the disk is what they wait for. */
const CLIPS_AT_ONCE = 4;

/** One sample of the dataset with the cache entries training reads. */
export interface TrainingSample extends Sample {
  /** Noised versions of the condition image, for image to video. */
  readonly variants: readonly CacheRequest[];
}

/** What training reads, wherever it comes from. */
export interface TrainingData {
  readonly cache: Pick<SampleCache, "read">;
  readonly samples: readonly Pick<TrainingSample, "item" | "latent" | "prompt" | "variants" | "bucket">[];
  /** The empty prompt, where captions are dropped. */
  readonly emptyPrompt: CacheRequest | undefined;
  readonly warnings: readonly string[];
}

/** A dataset ready to be encoded. Dispose it when its cache entries are no longer wanted. */
export interface PreparedData extends TrainingData, Disposable {
  readonly cache: SampleCache;
  readonly samples: readonly TrainingSample[];
  readonly plan: CachePlan;
  /** SHA-256 over files in this order, remembered between runs. */
  readonly hash: (paths: readonly string[]) => Promise<string>;
  /**
   * Makes sure that a clip or picture is still the file whose hash names its entries; called when it is decoded.
   *
   * @throws {UserError} when somebody has changed it.
   */
  requireUnchanged(recipe: PixelRecipe, request: CacheRequest): Promise<void>;
  /** Keeps other runs from removing the entries from now on; called before they are filled. */
  use(): Promise<void>;
  /** Notes in the cache folder what was made from what, and brings it back to its limit; called when it is filled. */
  finish(): Promise<Collected>;
}

/**
 * Reads and checks the whole dataset; decodes and encodes nothing. Throws UserErrors with every problem. With
 * `estimate`, files that no run has read before are not read either: what they make counts as new.
 */
export async function prepareData(
  config: TrainConfig,
  model: ModelFolder,
  { estimate = false }: { readonly estimate?: boolean } = {},
): Promise<PreparedData> {
  const images = config.model_type === "i2v";
  const root = config.data_root!;
  const dataset = await readDataset(root, datasetOptions(config));
  const folder = config.cache_dir ?? join(dataset.root, "cache");
  const cache = new SampleCache(folder);
  const hashes = await FileHashes.open(folder, { estimate });
  const settings = await encodingSettings(config, model, hashes);
  const shapes = entryShapes(config, model);
  const prepared = await pLimit(CLIPS_AT_ONCE).map(dataset.items, async (item) => {
    try {
      const sample = withShapes(await prepareSample(item, settings, hashes), shapes);
      return { sample: { ...sample, variants: images ? imageVariants(config, sample) : [] } };
    } catch (error) {
      return { problem: problemOf(error) };
    }
  });
  const problems = prepared.flatMap(({ problem }) => problem ?? []);
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot train on "${root}"`,
      problems,
      "cogtune data check lists every problem with its remedy",
    );
  }
  const samples: TrainingSample[] = prepared.flatMap(({ sample }) => sample ?? []);
  const emptyPrompt = config.caption_dropout > 0 ? emptyPromptOf(samples[0]!) : undefined;
  const requests = [
    ...samples.flatMap(({ latent, prompt, variants }) => [latent, prompt, ...variants]),
    ...(emptyPrompt === undefined ? [] : [emptyPrompt]),
  ];
  const tokenizer = loadTokenizer(join(model.path, "tokenizer"));
  let entries: Disposable | undefined;
  return {
    cache,
    samples,
    emptyPrompt,
    plan: await planCache(cache, requests),
    hash: (paths) => hashes.files(paths),
    warnings: [
      ...dataset.warnings,
      ...samples.flatMap(({ warning }) => warning ?? []),
      ...promptLengthNotes(dataset.items, model.transformer.max_text_seq_length, tokenizer),
    ],
    async requireUnchanged({ path, label }, { fields }) {
      if (await hashes.file(path) === fields.file) return;
      throw new UserError(`${label}: has changed since the run began`, "start again: it is encoded as it is now");
    },
    use: async () => void (entries ??= await useEntries(folder, requests.map(cacheKey))),
    [Symbol.dispose]: () => entries?.[Symbol.dispose](),
    finish: async () => {
      await writeIndex(cache, requests);
      await hashes.save();
      return await collectGarbage(cache, config.cache_limit * 2 ** 30);
    },
  };
}

async function encodingSettings(
  config: TrainConfig,
  model: ModelFolder,
  hashes: FileHashes,
): Promise<EncodingSettings> {
  return {
    ...shapeOptions(config),
    fit: config.crop === "fill" ? "crop" : config.crop,
    images: config.model_type === "i2v",
    vae: { vae: await hashes.files(model.vaeFiles), tiling: config.enable_tiling, compute: "f32" },
    textEncoder: {
      textEncoder: await hashes.files(model.textEncoderFiles),
      tokens: model.transformer.max_text_seq_length,
    },
    ffmpeg: await ffmpegVersion(),
  };
}

/** The same with what its entries must be to fit the model, which whoever has put them there may not have known. */
function withShapes(sample: Sample, buckets: readonly EntryShapes[]): Sample {
  const shapes = buckets[sample.bucket]!;
  const expect = (request: CacheRequest): CacheRequest => ({ ...request, shape: shapes[request.kind] });
  const { latent, prompt, image } = sample;
  return {
    ...sample,
    latent: expect(latent),
    prompt: expect(prompt),
    ...(image && { image: { ...image, request: expect(image.request) } }),
  };
}

function emptyPromptOf({ prompt }: Sample): CacheRequest {
  return { ...prompt, name: "clips without a caption", fields: { ...prompt.fields, prompt: "" } };
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
