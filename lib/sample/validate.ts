/**
 * Videos sampled while a model trains, with the weights that are on the device already.
 *
 * Memory: `prepareRequests` runs the text encoder and the VAE encoder, so it belongs before the training state is
 * allocated; what it gives lives on the host. Before {@linkcode sampleValidation} the arenas of the training step must
 * be freed (dispose its executables); weights, masters, gradients and optimizer state may stay. Denoising then needs
 * the arena of one forward pass of batch 1 without anything kept for backward, which is less than a training step of
 * the same resolution frees; it is freed before the VAE decoder, whose tiles bound its need, is loaded. Afterwards the
 * arenas can be made again from the same recording.
 */
import type { StorageType } from "../io/safetensors/half.ts";
import type { Session } from "../gpu/session.ts";
import type { ModelFolder } from "../models/folder/model_folder.ts";
import type { Parameters } from "../models/transformer/parameters.ts";
import { validationName, writePicture, writeSample } from "./files.ts";
import { decodeLatents, denoise, denoiseConfig, openDenoiser } from "./generate.ts";
import { openAutoencoder, type PreparedRequest } from "./prepare.ts";
import type { SampleSettings } from "./settings.ts";

/** What {@linkcode sampleValidation} samples with. */
export interface ValidationOptions {
  /** Weights and adapters on the device, as training reads them; never written to. */
  readonly parameters: Parameters;
  /** Storage of activations. */
  readonly activation: StorageType;
  /** The stored table of learned positions, for models that have one. */
  readonly learned?: Float32Array<ArrayBuffer> | undefined;
  /** The settings the requests were prepared with. */
  readonly settings: SampleSettings;
  readonly fps: number;
  readonly signal?: AbortSignal | undefined;
}

/** A validation video on disk. */
export interface ValidationSample {
  readonly path: string;
  /** The picture it starts from, for image to video. */
  readonly image?: string;
}

/**
 * Names without ending of the videos of one validation; equal prompts are numbered, because their names would be equal
 * too. Whichever process samples a prompt, its file has the name that process 0 gives it.
 */
export function validationNames(step: number, prompts: readonly string[]): string[] {
  const counts = new Map<string, number>();
  return prompts.map((prompt) => {
    const name = validationName(step, 0, prompt);
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return count === 0 ? name : `${name}-${count}`;
  });
}

/**
 * Samples a prepared request and writes its mp4, and the picture it starts from, at `base`, a path without ending. The
 * same seed is used at every step, so that videos differ by the weights alone.
 *
 * @throws {UserError} when a value is not finite or a file cannot be written; the reason of `signal` when aborted.
 */
export async function sampleValidation(
  session: Session,
  model: ModelFolder,
  entry: PreparedRequest,
  base: string,
  options: ValidationOptions,
): Promise<ValidationSample> {
  const { settings, activation, fps, signal } = options;
  const latents = await denoiseOnce(session, model, entry, options);
  using vae = openAutoencoder(session, model, { ...settings, dtype: settings.dtype ?? activation });
  const video = await decodeLatents(vae, model, latents, settings);
  const [path] = await writeSample(base, video, { formats: ["mp4"], fps, signal });
  const { image } = entry.request;
  if (image === undefined) return { path: path! };
  await writePicture(`${base}.png`, image);
  return { path: path!, image: `${base}.png` };
}

/** Latents of one request; the arena is freed when they are on the host. */
async function denoiseOnce(
  session: Session,
  model: ModelFolder,
  entry: PreparedRequest,
  { parameters, activation, learned, settings, signal }: ValidationOptions,
): Promise<Float32Array<ArrayBuffer>> {
  using denoiser = openDenoiser(session, denoiseConfig(model, settings, activation), parameters, learned);
  const steps = denoise(denoiser, model, entry, settings, signal);
  let next = await steps.next();
  while (next.done !== true) next = await steps.next();
  return next.value;
}
