/**
 * Clips that nobody has filmed, for a model without encoders: random latents and prompt embeddings of the config's
 * shape, or of its buckets in turn. A run on them measures time and memory; it learns nothing.
 */
import type { TrainConfig } from "../../config/config.ts";
import type { CachedTensor } from "../../data/cache/cache.ts";
import type { CacheKind, CacheRequest } from "../../data/cache/key.ts";
import { RandomStream } from "../../data/random/random.ts";
import type { ModelConfigs } from "../../models/folder/model_folder.ts";
import { entryShapes } from "./entry_shapes.ts";
import { IMAGE_VARIANTS, type TrainingData } from "./prepare_data.ts";

/** Clips of a shape at least; batches beyond have as many as a batch. */
const LEAST_CLIPS = 4;

/** Deviation of prompt embeddings, as T5 gives them. */
const TEXT_DEVIATION = 0.2;

/** Log-variance of the latents' posterior, as the autoencoder gives it for a clear clip. */
const LOG_VARIANCE = -15;

/** Draws the samples that a config trains on when it names no model folder. */
export function drawnData(config: TrainConfig, model: ModelConfigs): TrainingData {
  const buckets = entryShapes(config, model);
  const drawn = new Map<CacheRequest, CachedTensor>();
  const requests: CacheRequest[] = [];
  const request = (kind: CacheKind, name: string, bucket = 0): CacheRequest => {
    const made = { kind, name, fields: { drawn: requests.length }, shape: buckets[bucket]![kind] };
    requests.push(made);
    return made;
  };
  const draw = (request: CacheRequest): CachedTensor => {
    const { kind } = request;
    const shape = request.shape!;
    const data = new Float32Array(shape.reduce((product, length) => product * length, 1));
    const values = kind === "prompt" ? data : data.subarray(0, data.length / 2);
    const sample = requests.indexOf(request);
    new RandomStream({ seed: config.seed, purpose: "drawnSample", step: 0, sample }).fillNormals(values);
    const deviation = kind === "prompt" ? TEXT_DEVIATION : 1 / model.vae.scaling_factor;
    for (let i = 0; i < values.length; i++) values[i] = values[i]! * deviation;
    if (kind !== "prompt") data.fill(LOG_VARIANCE, data.length / 2);
    return { shape, data };
  };
  const emptyPrompt = config.caption_dropout > 0 ? request("prompt", "clips without a caption") : undefined;
  const samples = Array.from({ length: Math.max(LEAST_CLIPS, config.batch_size) * buckets.length }, (_, index) => {
    const name = `random clip ${index + 1}`;
    const bucket = index % buckets.length;
    const variants = config.model_type === "i2v" ? IMAGE_VARIANTS : 0;
    return {
      item: { index, prompt: "", name, videoPath: "" },
      bucket,
      latent: request("latent", name, bucket),
      prompt: request("prompt", name),
      variants: Array.from({ length: variants }, () => request("image", name, bucket)),
    };
  });
  const read = (request: CacheRequest): CachedTensor => {
    const tensor = drawn.get(request) ?? draw(request);
    drawn.set(request, tensor);
    return tensor;
  };
  const warning =
    "random_weights without model_path: latents and prompts are drawn at random too, and the data is not " +
    "read; such a run measures and learns nothing";
  return { cache: { read }, samples, emptyPrompt, warnings: [warning] };
}
