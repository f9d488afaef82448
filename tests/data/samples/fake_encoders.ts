/** Stand-ins for the VAE and the text encoder: cheap, deterministic, of the right shapes. Run as a program: fills a cache. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { CachedTensor } from "../../../lib/data/cache/cache.ts";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import {
  type Encoder,
  fillCache,
  type FillOptions,
  type FillProgress,
  type FillTask,
} from "../../../lib/data/samples/cache_fill.ts";
import type { CacheRequest } from "../../../lib/data/cache/key.ts";
import type { RgbFrames } from "../../../lib/data/video/video.ts";
import { makeClip, withFolder } from "../media.ts";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { FileHashes } from "../../../lib/data/cache/file_hashes.ts";
import {
  decodePixels,
  type EncodingSettings,
  type PixelRecipe,
  prepareSample,
  type Sample,
} from "../../../lib/data/samples/sample_pixels.ts";

/** Settings for clips of 8 frames per second. */
export const settings: EncodingSettings = {
  frames: 9,
  fps: 8,
  size: { width: 32, height: 16 },
  vae: { vae: "weights 1" },
  textEncoder: { textEncoder: "weights 2", maxTokens: 226 },
  ffmpeg: "test",
};

/** [2*16, f, h, w] of sums over pixels, which no two different clips share. */
export function latentOf({ data: pixels, frames, height, width }: RgbFrames): CachedTensor {
  const shape = [32, (frames - 1) / 4 + 1, height / 8, width / 8];
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  pixels.forEach((value, i) => data[i % data.length]! += value);
  return { shape, data };
}

/** [4, 8] of the prompt's hash. */
export function embeddingOf(prompt: string): CachedTensor {
  return { shape: [4, 8], data: Float32Array.from(createHash("sha256").update(prompt).digest()) };
}

/** Pixels for a latent, or text for an embedding. */
export type Input = RgbFrames | string;

/** Takes inputs `batch` at a time, calling `onBatch` with them first. */
export function fakeEncoder(batch: number, onBatch: (inputs: readonly Input[]) => void = () => {}): Encoder<Input> {
  return {
    batch,
    encode(inputs) {
      onBatch(inputs);
      return Promise.resolve(inputs.map((input) => typeof input === "string" ? embeddingOf(input) : latentOf(input)));
    },
    [Symbol.dispose]() {},
  };
}

/** Clips and pictures, decoded in this thread unless `decode` says otherwise. */
export function pixelTasks(
  samples: readonly Sample[],
  decode: (recipe: PixelRecipe, signal: AbortSignal) => Promise<RgbFrames> = decodePixels,
): FillTask<Input>[] {
  const task = (request: CacheRequest, recipe: PixelRecipe): FillTask<Input> => ({
    request,
    prepare: (signal) => decode(recipe, signal),
  });
  return samples.flatMap(({ latent, clip, image }) => [
    task(latent, clip),
    ...(image === undefined ? [] : [task(image.request, image.picture)]),
  ]);
}

/** Prompts. */
export function promptTasks(samples: readonly Sample[]): FillTask<Input>[] {
  return samples.map(({ prompt, item }) => ({ request: prompt, prepare: () => item.prompt }));
}

/** Fills a cache; returns how many entries were built. */
export async function fillAll(
  cache: SampleCache,
  tasks: readonly FillTask<Input>[],
  options: FillOptions & { readonly encoder?: Encoder<Input> } = {},
): Promise<number> {
  let built = 0;
  const progress = fillCache(cache, tasks, () => options.encoder ?? fakeEncoder(1), options);
  const last = new Map<string, FillProgress>();
  for await (const step of progress) last.set(step.kind, step);
  for (const { done, total, reused } of last.values()) {
    if (done !== total) throw new Error(`${done} of ${total}`);
    built += done - reused;
  }
  return built;
}

/** All samples of a dataset folder. */
export async function prepareAll(
  folder: string,
  cache: string,
  changes: Partial<EncodingSettings> = {},
): Promise<Sample[]> {
  const hashes = await FileHashes.open(cache);
  const { items } = await readDataset(folder, { images: changes.images ?? false });
  return await Promise.all(items.map((item) => prepareSample(item, { ...settings, ...changes }, hashes)));
}

/** Three clips; the first and third share a prompt. */
async function makeDataset(folder: string): Promise<void> {
  for (const [name, size] of [["a", "64x32"], ["b", "96x32"], ["c", "32x64"]] as const) {
    await makeClip(join(folder, `${name}.mp4`), size, 8, 12);
  }
  await Deno.writeTextFile(join(folder, "prompts.txt"), "same\nother\nsame\n");
  await Deno.writeTextFile(join(folder, "videos.txt"), "a.mp4\nb.mp4\nc.mp4\n");
}

/** A folder of three clips and a cache for them, removed at the end. */
export function withDataset(body: (folder: string, cache: SampleCache) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    await makeDataset(folder);
    await body(folder, new SampleCache(join(folder, "cache")));
  });
}

if (import.meta.main) {
  const [dataset, folder] = Deno.args as [string, string];
  const samples = await prepareAll(dataset, folder);
  const cache = new SampleCache(folder);
  const built = await fillAll(cache, promptTasks(samples)) + await fillAll(cache, pixelTasks(samples));
  await Deno.stdout.write(new TextEncoder().encode(`${built} ${cache.damaged.length}`));
}
