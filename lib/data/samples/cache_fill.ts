/** Encodes what a cache lacks, with encoders given as functions: decoding the next clip overlaps encoding this one. */
import { UserError, UserErrors } from "../../errors.ts";
import type { CachedTensor, SampleCache } from "../cache/cache.ts";
import { cacheKey, type CacheRequest } from "../cache/key.ts";
import { normalise } from "../video/normalise.ts";
import { decodePixels, type PixelRecipe, type Sample } from "./sample_pixels.ts";

/** Encodes pixels, f32 [3, F, H, W] in [-1, 1], to posterior mean and log-variance [2*16, f, h, w]. */
export type VideoEncoder = (
  pixels: Float32Array<ArrayBuffer>,
  shape: [channels: 3, frames: number, height: number, width: number],
) => Promise<CachedTensor>;

/** Options of {@linkcode fillLatents}. */
export interface FillOptions {
  /** Called after each entry. */
  onProgress?: (done: number, total: number, name: string) => void;
  signal?: AbortSignal;
  /** This process takes care of entries `rank`, `rank + world`, ... of the distinct ones (0 of 1). */
  rank?: number;
  world?: number;
}

/** One entry to build: `prepare` runs ahead on the host, `encode` occupies the GPU. */
interface FillJob<T> {
  request: CacheRequest;
  prepare: () => Promise<T>;
  encode: (prepared: T) => Promise<CachedTensor>;
}

/** Jobs whose entry is absent or damaged, each key once. */
function missingJobs<T>(cache: SampleCache, jobs: FillJob<T>[], options: FillOptions): FillJob<T>[] {
  const { rank = 0, world = 1 } = options;
  const byKey = new Map<string, FillJob<T>>();
  for (const job of jobs) byKey.set(cacheKey(job.request), byKey.get(cacheKey(job.request)) ?? job);
  const distinct = [...byKey.values()];
  // Reading verifies, so a damaged entry is built again here and not found in the middle of training.
  return distinct.filter((_, i) => i % world === rank).filter((job) => cache.read(job.request) === undefined);
}

/**
 * Builds missing entries one after another. A sample that fails does not stop the others.
 *
 * @returns number of entries built.
 */
async function fill<T>(cache: SampleCache, jobs: FillJob<T>[], options: FillOptions): Promise<number> {
  const missing = missingJobs(cache, jobs, options);
  const failures: string[] = [];
  const start = (job: FillJob<T> | undefined) => {
    const prepared = job?.prepare();
    // It is awaited one turn later; until then a failure must not count as unhandled.
    prepared?.catch(() => {});
    return prepared;
  };
  let next = start(missing[0]);
  for (const [i, job] of missing.entries()) {
    options.signal?.throwIfAborted();
    const current = next!;
    next = start(missing[i + 1]);
    try {
      await cache.write(job.request, await job.encode(await current));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      failures.push(error.message.replace("\n", " "));
    }
    options.onProgress?.(i + 1, missing.length, job.request.name);
  }
  if (failures.length > 0) throw new UserErrors("Some samples could not be encoded", failures, "mend or remove them");
  return missing.length;
}

function pixelJob(
  request: CacheRequest,
  recipe: PixelRecipe,
  encode: VideoEncoder,
  signal: AbortSignal | undefined,
): FillJob<Parameters<VideoEncoder>> {
  return {
    request,
    prepare: async () => {
      const video = await decodePixels(recipe, signal);
      return [normalise(video), [3, video.frames, video.height, video.width]];
    },
    encode: (prepared) => encode(...prepared),
  };
}

/**
 * Encodes the clips and condition pictures that the cache lacks.
 *
 * @returns number of entries built.
 * @throws {UserErrors} naming every sample that could not be decoded or encoded, after all others are stored.
 */
export function fillLatents(
  cache: SampleCache,
  samples: readonly Sample[],
  encode: VideoEncoder,
  options: FillOptions = {},
): Promise<number> {
  const jobs = samples.flatMap(({ latent, clip, image }) => {
    const jobs = [pixelJob(latent, clip, encode, options.signal)];
    if (image !== undefined) jobs.push(pixelJob(image.request, image.picture, encode, options.signal));
    return jobs;
  });
  return fill(cache, jobs, options);
}
