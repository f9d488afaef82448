/** What the encoders contribute to a video, computed before the transformer is loaded and kept on the host. */
import { join } from "node:path";
import { RandomStream } from "../data/random/random.ts";
import { loadTokenizer } from "../data/text/tokenizer.ts";
import { requireVocabulary } from "../data/text/vocabulary.ts";
import type { Session } from "../gpu/session.ts";
import type { ModelFolder } from "../models/folder/model_folder.ts";
import { openTextEncoder } from "../models/t5/encoder.ts";
import { openVae, samplePosterior, type Vae } from "../models/vae/vae.ts";
import { latentSize } from "../models/transformer/config.ts";
import type { SampleRequest, SampleSettings } from "./settings.ts";
import { framesFirst, imageCondition, pixelVolume } from "./latents.ts";

/** A request with everything the transformer needs. */
export interface PreparedRequest {
  readonly request: SampleRequest;
  /** Embedding [tokens, width] of the prompt. */
  readonly prompt: Float32Array<ArrayBuffer>;
  /** Embedding of the negative prompt, with guidance. */
  readonly negative: Float32Array<ArrayBuffer> | undefined;
  /** [f, 16, h, w], for image to video. */
  readonly condition: Float32Array<ArrayBuffer> | undefined;
  /** Scaled clean latents [f, 16, h, w], for video to video. */
  readonly start: Float32Array<ArrayBuffer> | undefined;
}

/** Requests ready for the transformer, and what the user should know about them. */
export interface Preparation {
  readonly requests: readonly PreparedRequest[];
  readonly notes: readonly string[];
}

/**
 * Embeds every distinct prompt once. Nothing of the text encoder stays on the device.
 *
 * @param notes receives a line per prompt that is longer than the model reads.
 * @throws {UserError} when tokenizer and text encoder do not belong together, or one of them cannot be read.
 */
export async function encodePrompts(
  session: Session,
  model: ModelFolder,
  prompts: readonly string[],
  notes: string[],
): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const tokenizer = loadTokenizer(join(model.path, "tokenizer"));
  const length = model.transformer.max_text_seq_length;
  const distinct = [...new Set(prompts)];
  for (const prompt of distinct) {
    const { tokens, cutOff } = tokenizer.fit(prompt, length);
    if (cutOff !== "") notes.push(`a prompt of ${tokens} tokens is cut to ${length}, without "${cutOff.slice(0, 60)}"`);
  }
  using encoder = openTextEncoder(session, model.path);
  requireVocabulary(tokenizer, encoder.config, model.path);
  const embeddings = await encoder.encode(distinct.map((prompt) => tokenizer.encode(prompt, length)));
  return new Map(distinct.map((prompt, i) => [prompt, embeddings[i]!]));
}

/** Standard normal numbers of one purpose, a function of the seed of the video alone. */
export function normals(
  length: number,
  seed: number,
  purpose: "initialLatents" | "samplerNoise" | "posterior" | "imagePosterior",
  step = 0,
): Float32Array<ArrayBuffer> {
  return new RandomStream({ seed, purpose, step, sample: 0 }).fillNormals(new Float32Array(length));
}

/** Opens the autoencoder with the storage type and tiling of the settings. */
export function openAutoencoder(
  session: Session,
  model: ModelFolder,
  { dtype, tiling }: Pick<SampleSettings, "dtype" | "tiling">,
): Vae {
  return openVae(session, model.path, {
    ...(dtype === undefined ? {} : { dtype }),
    ...(tiling ? {} : { tiling: false }),
  });
}

async function encodeImage(
  vae: Vae,
  { image, seed }: SampleRequest,
  settings: SampleSettings,
  frames: number,
): Promise<Float32Array<ArrayBuffer> | undefined> {
  if (image === undefined) return undefined;
  const posterior = await vae.encode(pixelVolume(image, settings));
  const noise = normals(posterior.mean.data.length, seed, "imagePosterior");
  return imageCondition(posterior, noise, vae.config, frames);
}

async function encodeVideo(
  vae: Vae,
  { video, seed }: SampleRequest,
  settings: SampleSettings,
): Promise<Float32Array<ArrayBuffer> | undefined> {
  if (video === undefined) return undefined;
  const posterior = await vae.encode(pixelVolume(video, settings));
  const noise = normals(posterior.mean.data.length, seed, "posterior");
  return framesFirst(samplePosterior(posterior, noise), vae.config.scaling_factor);
}

/**
 * Runs text encoder and, where a request has pixels, VAE encoder over all requests; both are off the device afterwards.
 */
export async function prepareRequests(
  session: Session,
  model: ModelFolder,
  requests: readonly SampleRequest[],
  settings: SampleSettings,
): Promise<Preparation> {
  const notes: string[] = [];
  const guided = settings.guidance > 1;
  const negativeOf = ({ negative = "" }: SampleRequest) => negative;
  const prompts = requests.flatMap((request) => [request.prompt, ...(guided ? [negativeOf(request)] : [])]);
  const embeddings = await encodePrompts(session, model, prompts, notes);
  const latents = latentSize(model.transformer, [settings.frames, settings.height, settings.width]);
  const needsVae = requests.some(({ image, video }) => image !== undefined || video !== undefined);
  using vae = needsVae ? openAutoencoder(session, model, settings) : undefined;
  const prepared: PreparedRequest[] = [];
  for (const request of requests) {
    prepared.push({
      request,
      prompt: embeddings.get(request.prompt)!,
      negative: guided ? embeddings.get(negativeOf(request)) : undefined,
      condition: vae && await encodeImage(vae, request, settings, latents.frames + latents.padding),
      start: vae && await encodeVideo(vae, request, settings),
    });
  }
  return { requests: prepared, notes };
}
