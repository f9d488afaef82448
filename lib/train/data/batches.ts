/**
 * Micro-batches from the cache. Everything random depends on (seed, micro-step, global sample index) alone, so neither
 * ranks nor resuming change what a step sees.
 */
import type { CachedTensor } from "../../data/cache/cache.ts";
import { RandomStream } from "../../data/random/random.ts";
import type { SampledItem } from "../../data/random/sampler.ts";
import { UserError } from "../../errors.ts";
import type { VaeConfig } from "../../models/vae/config.ts";
import { latentPadding, type TransformerConfig } from "../../models/transformer/config.ts";
import type { CacheRequest } from "../../data/cache/key.ts";
import type { TrainConfig } from "../../config/config.ts";
import { drawNoise, drawTimestep, dropsCaption, lossWeight } from "./noising.ts";
import { IMAGE_VARIANTS, type TrainingData } from "./prepare_data.ts";
import type { MicroBatch } from "../../step/training_step.ts";

/** What batches are made from. */
export interface BatchSource extends Pick<TrainingData, "cache" | "samples"> {
  readonly config: TrainConfig;
  readonly model: TransformerConfig;
  readonly vae: VaeConfig;
  /** What dropped captions are replaced by. */
  readonly emptyPrompt?: CacheRequest | undefined;
  readonly alphas: Float64Array;
}

/** Factor of the condition latent: what the original trains with, or what the sampling pipeline of the model uses. */
export function imageFactor({ image_scale }: TrainConfig, vae: VaeConfig): number {
  return image_scale === "pipeline" && vae.invert_scale_latents ? 1 / vae.scaling_factor : vae.scaling_factor;
}

function read(cache: TrainingData["cache"], request: CacheRequest): CachedTensor {
  const entry = cache.read(request);
  if (entry === undefined) {
    throw new UserError(
      `The cached ${request.kind} of "${request.name}" has vanished or is damaged while training`,
      "start again: the entry is rebuilt, and resume_from_checkpoint: latest goes on after the last checkpoint",
    );
  }
  return entry;
}

/**
 * A sample of the posterior [2C, f, h, w], scaled, frames first [f + pad, C, h, w]; the first frame is repeated in
 * front to fill whole patches in time (CogVideoX1.5).
 */
export function sampleLatent(
  { shape, data }: CachedTensor,
  normals: Float32Array,
  factor: number,
  pad: number,
): Float32Array<ArrayBuffer> {
  const [moments, frames, height, width] = shape as readonly [number, number, number, number];
  const channels = moments / 2;
  const plane = height * width;
  const half = data.length / 2;
  const out = new Float32Array((frames + pad) * channels * plane);
  for (let c = 0; c < channels; c++) {
    for (let f = 0; f < frames; f++) {
      const from = (c * frames + f) * plane;
      const to = ((f + pad) * channels + c) * plane;
      for (let i = 0; i < plane; i++) {
        out[to + i] = (data[from + i]! + Math.exp(0.5 * data[half + from + i]!) * normals[from + i]!) * factor;
      }
    }
  }
  for (let f = 0; f < pad; f++) {
    out.copyWithin(f * channels * plane, pad * channels * plane, (pad + 1) * channels * plane);
  }
  return out;
}

/**
 * Builds the micro-batch of these items; when they are fewer than the batch size, the first one fills up with weight 0.
 */
export function makeBatch(source: BatchSource, items: readonly SampledItem[]): MicroBatch {
  const { config, model, vae, cache, samples, alphas } = source;
  const filled = Array.from({ length: config.batch_size }, (_, b) => items[b] ?? items[0]!);
  const parts = filled.map((item) => {
    const sample = samples[item.index]!;
    const posterior = read(cache, sample.latent);
    const [moments, frames, height, width] = posterior.shape as [number, number, number, number];
    const pad = latentPadding(model, frames);
    const normals = (purpose: "posterior" | "imagePosterior", count: number) =>
      new RandomStream({ seed: config.seed, purpose, step: 0, sample: item.globalIndex })
        .fillNormals(new Float32Array(count));
    const latents = sampleLatent(posterior, normals("posterior", posterior.data.length / 2), vae.scaling_factor, pad);
    return {
      latents,
      noise: drawNoise(
        config,
        { frames: frames + pad, channels: moments / 2, plane: height * width },
        item.globalIndex,
      ),
      text: read(cache, dropsCaption(config, item.globalIndex) ? source.emptyPrompt! : sample.prompt).data,
      condition: sample.variants.length === 0 ? undefined : conditionOf(source, items, item, latents.length, normals),
    };
  });
  const timesteps = filled.map((item) => drawTimestep(config, alphas.length, item.globalIndex));
  const join = (pick: (part: typeof parts[number]) => Float32Array) => {
    const arrays = parts.map(pick);
    const joined = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
    arrays.forEach((array, b) => joined.set(array, b * arrays[0]!.length));
    return joined;
  };
  return {
    bucket: samples[items[0]!.index]!.bucket,
    latents: join(({ latents }) => latents),
    noise: join(({ noise }) => noise),
    text: join(({ text }) => text),
    condition: parts[0]!.condition === undefined ? undefined : join(({ condition }) => condition!),
    draws: Uint32Array.of(config.seed, items[0]!.globalIndex, 0, 0),
    timesteps,
    alphas: timesteps.map((t) => alphas[t]!),
    weights: timesteps.map((t, b) => b < items.length ? lossWeight(config, alphas[t]!) / items.length : 0),
  };
}

/** The image latent in frame 0 and zeros behind it; all zeros when the condition is dropped. */
function conditionOf(
  { config, vae, cache, samples }: BatchSource,
  items: readonly SampledItem[],
  item: SampledItem,
  length: number,
  normals: (purpose: "imagePosterior", count: number) => Float32Array,
): Float32Array {
  const condition = new Float32Array(length);
  const draw = (sample: number, variant: number) =>
    new RandomStream({ seed: config.seed, purpose: "augmentation", step: variant, sample });
  if (draw(item.globalIndex, 0).uniform() < config.condition_dropout) return condition;
  const drawnFor = config.image_noise === "per_batch" ? items[0]!.globalIndex : item.globalIndex;
  const variant = draw(drawnFor, 1).integer(IMAGE_VARIANTS);
  const posterior = read(cache, samples[item.index]!.variants[variant]!);
  condition.set(
    sampleLatent(posterior, normals("imagePosterior", posterior.data.length / 2), imageFactor(config, vae), 0),
  );
  return condition;
}
