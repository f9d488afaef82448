/**
 * Prompts, pictures and videos to videos, in phases of which each has the device to itself: text encoder, VAE encoder,
 * transformer, VAE decoder.
 */
import type { RgbFrames } from "../data/video/video.ts";
import type { Session } from "../gpu/session.ts";
import type { StorageType } from "../io/safetensors/half.ts";
import type { ModelFolder } from "../models/folder/model_folder.ts";
import { loadTransformer } from "./load_transformer.ts";
import { decodeLatents, denoise, denoiseConfig, openDenoiser } from "./generate.ts";
import type { LoraChoice } from "../models/lora/stack.ts";
import { openAutoencoder, type PreparedRequest, prepareRequests } from "./prepare.ts";
import { checkRequests, type SampleRequest, type SampleSettings, settingNotes } from "./settings.ts";

/** Videos denoised per loading of the transformer: few enough that the first results come soon. */
const VIDEOS_PER_LOAD = 4;

/** What happens while videos are sampled. */
export type SamplingEvent =
  /** Something the user should know. */
  | { readonly type: "note"; readonly message: string }
  /** A phase begins. */
  | { readonly type: "phase"; readonly phase: "encode" | "load" | "decode" }
  /** A step of the video of request `index` is done. */
  | { readonly type: "step"; readonly index: number; readonly step: number; readonly steps: number }
  /** The video of request `index` is done; `seconds` is the time of its denoising and decoding. */
  | { readonly type: "video"; readonly index: number; readonly video: RgbFrames; readonly seconds: number };

/** Options of {@linkcode sampleOn}. */
export interface SampleOptions {
  /** What all videos have in common. */
  readonly settings: SampleSettings;
  /** LoRAs added to the weights, each with its strength. */
  readonly loras?: readonly LoraChoice[] | undefined;
  /** Aborting ends sampling between two steps. */
  readonly signal?: AbortSignal | undefined;
}

interface Denoised {
  readonly index: number;
  readonly latents: Float32Array<ArrayBuffer>;
  readonly seconds: number;
}

/** Runs one group through the transformer, collecting its latents in `results`. */
async function* denoiseGroup(
  session: Session,
  model: ModelFolder,
  group: readonly (readonly [number, PreparedRequest])[],
  { settings, loras, signal }: SampleOptions,
  results: Denoised[],
): AsyncGenerator<SamplingEvent, StorageType> {
  const { dtype, streamed } = settings;
  yield { type: "phase", phase: "load" };
  using base = await loadTransformer(session, model, { dtype, streamed, loras });
  // Every group loads the same files, so only the first says what there is to say about them.
  if (group[0]![0] === 0) { for (const message of base.notes) yield { type: "note", message }; }
  const config = denoiseConfig(model, settings, base.dtype);
  using denoiser = openDenoiser(session, config, base.parameters, base.learned);
  if (denoiser.fallback && group[0]![0] === 0) {
    yield {
      type: "note",
      message: "the learned positions fit another number of frames: sines are used, as in diffusers",
    };
  }
  for (const [index, prepared] of group) {
    const started = performance.now();
    const steps = denoise(denoiser, model, prepared, settings, signal);
    let next = await steps.next();
    for (; next.done !== true; next = await steps.next()) yield { type: "step", index, ...next.value };
    results.push({ index, latents: next.value, seconds: (performance.now() - started) / 1000 });
  }
  return base.dtype;
}

/**
 * Samples a video per request. Equal requests and settings give equal videos on the same machine, whatever else is
 * sampled beside them.
 *
 * @throws {UserErrors} listing everything the model cannot do, before anything is loaded; the reason of `signal` when
 * aborted.
 */
export async function* sampleOn(
  session: Session,
  model: ModelFolder,
  requests: readonly SampleRequest[],
  options: SampleOptions,
): AsyncGenerator<SamplingEvent> {
  const { settings, signal } = options;
  checkRequests(model.transformer, settings, requests);
  yield { type: "phase", phase: "encode" };
  const { requests: prepared, notes } = await prepareRequests(session, model, requests, settings);
  for (const message of [...settingNotes(model.transformer, settings), ...notes]) yield { type: "note", message };
  const numbered = [...prepared.entries()];
  for (let from = 0; from < numbered.length; from += VIDEOS_PER_LOAD) {
    const results: Denoised[] = [];
    const group = numbered.slice(from, from + VIDEOS_PER_LOAD);
    const dtype = yield* denoiseGroup(session, model, group, options, results);
    yield { type: "phase", phase: "decode" };
    using vae = openAutoencoder(session, model, { ...settings, dtype });
    for (const { index, latents, seconds } of results) {
      signal?.throwIfAborted();
      const started = performance.now();
      const video = await decodeLatents(vae, model, latents, settings);
      yield { type: "video", index, video, seconds: seconds + (performance.now() - started) / 1000 };
    }
  }
}
