/** Stand-ins for the VAE and the text encoder: cheap, deterministic, of the right shapes. Run as a program: fills a cache. */
import { createHash } from "node:crypto";
import type { CachedTensor } from "../../../lib/data/cache/cache.ts";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import { fillLatents } from "../../../lib/data/samples/cache_fill.ts";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { FileHashes } from "../../../lib/data/cache/file_hashes.ts";
import { prepareSample, type Sample, type SampleSettings } from "../../../lib/data/samples/sample_pixels.ts";

/** Settings for clips of 8 frames per second. */
export const settings: SampleSettings = {
  frames: 9,
  fps: 8,
  size: { width: 32, height: 16 },
  vae: { vae: "weights 1" },
  textEncoder: { textEncoder: "weights 2", maxTokens: 226 },
  ffmpeg: "test",
};

/** [2*16, f, h, w] of sums over pixels, which no two different clips share. */
export function encodeVideo(pixels: Float32Array, [, frames, height, width]: number[]): Promise<CachedTensor> {
  const shape = [32, (frames - 1) / 4 + 1, height / 8, width / 8];
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  pixels.forEach((value, i) => data[i % data.length] += value);
  return Promise.resolve({ shape, data });
}

/** [4, 8] of the prompt's hash. */
export function encodePrompt(prompt: string): Promise<CachedTensor> {
  return Promise.resolve({ shape: [4, 8], data: Float32Array.from(createHash("sha256").update(prompt).digest()) });
}

/** Stores the embeddings that a cache lacks; returns how many there were. */
export async function fillPrompts(cache: SampleCache, samples: readonly Sample[]): Promise<number> {
  let built = 0;
  for (const { prompt, item } of samples) {
    await cache.getOrBuild(prompt, () => {
      built++;
      return encodePrompt(item.prompt);
    });
  }
  return built;
}

/** All samples of a dataset folder. */
export async function prepareAll(
  folder: string,
  cache: string,
  changes: Partial<SampleSettings> = {},
): Promise<Sample[]> {
  const hashes = await FileHashes.open(cache);
  const { items } = await readDataset(folder, { images: changes.images ?? false });
  return await Promise.all(items.map((item) => prepareSample(item, { ...settings, ...changes }, hashes)));
}

if (import.meta.main) {
  const [dataset, folder] = Deno.args;
  const samples = await prepareAll(dataset, folder), cache = new SampleCache(folder);
  const built = await fillPrompts(cache, samples) + await fillLatents(cache, samples, encodeVideo);
  await Deno.stdout.write(new TextEncoder().encode(`${built} ${cache.damaged.length}`));
}
