/**
 * Videos sampled while a model trains, with the weights that are on the device already.
 *
 * Memory: {@linkcode prepareValidation} runs the text encoder and the VAE encoder, so it belongs before the training state is
 * allocated; what it gives lives on the host. Before {@linkcode validate} the arenas of the training step must be freed (dispose
 * its executables); weights, masters, gradients and optimizer state may stay. Denoising then needs the arena of one forward
 * pass of batch 1 without anything kept for backward, which is less than a training step of the same resolution frees; it is
 * freed before the VAE decoder, whose tiles bound its need, is loaded. Afterwards the arenas can be made again from the same
 * recording.
 */
import { join } from "node:path";
import type { StorageType } from "../io/half.ts";
import type { Session } from "../gpu/session.ts";
import type { ModelFolder } from "../models/model_folder.ts";
import type { Parameters } from "../models/parameters.ts";
import { validationName, writePicture, writeSample } from "./files.ts";
import { decodeLatents, denoise, denoiseConfig, openDenoiser } from "./generate.ts";
import { SamplePage } from "./page.ts";
import { openAutoencoder, type Preparation, prepareRequests } from "./prepare.ts";
import { checkRequests, describeSettings, type SampleRequest, type SampleSettings } from "./settings.ts";

/**
 * Encodes prompts and pictures once for all validations of a run.
 *
 * @throws {UserErrors} listing every request that the model cannot serve.
 */
export async function prepareValidation(
  session: Session,
  model: ModelFolder,
  requests: readonly SampleRequest[],
  settings: SampleSettings,
): Promise<Preparation> {
  checkRequests(model.transformer, settings, requests);
  return await prepareRequests(session, model, requests, settings);
}

/** What {@linkcode validate} samples with. */
export interface ValidationOptions {
  /** Weights and adapters on the device, as training reads them; never written to. */
  readonly parameters: Parameters;
  /** Storage of activations. */
  readonly activation: StorageType;
  /** The stored table of learned positions, for models that have one. */
  readonly learned?: Float32Array<ArrayBuffer> | undefined;
  readonly prepared: Preparation;
  /** The settings `prepared` was made with. */
  readonly settings: SampleSettings;
  readonly fps: number;
  /** Folder of videos and page, made when missing; the original trainer uses `validation_res` in its output folder. */
  readonly outputFolder: string;
  /** Optimizer step of the weights. */
  readonly step: number;
  /** Rank of this process, part of file names. Default 0. */
  readonly process?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A validation video on disk. */
export interface ValidationSample {
  readonly prompt: string;
  readonly path: string;
  /** Time of denoising, decoding and writing. */
  readonly seconds: number;
}

/** File name of a request; equal prompts of one validation are numbered, because their names would be equal too. */
function artifactNames({ prepared, step, process = 0 }: ValidationOptions): string[] {
  const counts = new Map<string, number>();
  return prepared.requests.map(({ request }) => {
    const name = validationName(step, process, request.prompt);
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return count === 0 ? name : `${name}-${count}`;
  });
}

/**
 * Samples every prepared request and writes an mp4 per request, its picture, and the page of all steps. The same seeds are used
 * at every step, so that columns of the page differ by the weights alone.
 *
 * @throws {UserError} when a value is not finite or a file cannot be written; the reason of `signal` when aborted.
 */
export async function* validate(
  session: Session,
  model: ModelFolder,
  options: ValidationOptions,
): AsyncGenerator<ValidationSample> {
  const { settings, prepared, outputFolder, fps, step, signal } = options;
  const page = new SamplePage(outputFolder, "Validation samples");
  const names = artifactNames(options);
  for (const [i, entry] of prepared.requests.entries()) {
    const started = performance.now();
    const { request } = entry;
    const latents = await denoiseOnce(session, model, options, i);
    using vae = openAutoencoder(session, model, { ...settings, dtype: settings.dtype ?? options.activation });
    const video = await decodeLatents(vae, model, latents, settings);
    const base = join(outputFolder, names[i]!);
    const [path] = await writeSample(base, video, { formats: ["mp4"], fps, signal });
    if (request.image !== undefined) await writePicture(`${base}.png`, request.image);
    await page.add({
      prompt: request.prompt,
      seed: request.seed,
      step,
      file: path!,
      image: request.image === undefined ? undefined : `${base}.png`,
      details: describeSettings(settings),
    });
    yield { prompt: request.prompt, path: path!, seconds: (performance.now() - started) / 1000 };
  }
}

/** Latents of one request; the arena is freed when they are on the host. */
async function denoiseOnce(
  session: Session,
  model: ModelFolder,
  { parameters, activation, learned, prepared, settings, signal }: ValidationOptions,
  index: number,
): Promise<Float32Array<ArrayBuffer>> {
  using denoiser = openDenoiser(session, denoiseConfig(model, settings, activation), parameters, learned);
  const steps = denoise(denoiser, model, prepared.requests[index]!, settings, signal);
  let next = await steps.next();
  while (next.done !== true) next = await steps.next();
  return next.value;
}
