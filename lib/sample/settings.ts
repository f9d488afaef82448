/** What a video is sampled with, checked against the model before anything is loaded. */
import { UserErrors } from "../errors.ts";
import type { StorageType } from "../io/safetensors/half.ts";
import {
  isImageToVideo,
  LATENT_PIXELS,
  latentPadding,
  latentSize,
  type TransformerConfig,
} from "../models/transformer/config.ts";
import type { RgbFrames } from "../data/video/video.ts";
import { decodedFrames } from "./latents.ts";

/** Settings that all videos of a run share. */
export interface SampleSettings {
  /** Frames of the video. */
  readonly frames: number;
  /** Height in pixels. */
  readonly height: number;
  /** Width in pixels. */
  readonly width: number;
  /** DPM-Solver++ of second order with noise, or DDIM. */
  readonly sampler: "dpm" | "ddim";
  /** Sampler steps. */
  readonly steps: number;
  /** Scale of classifier-free guidance; 1 or less is off. */
  readonly guidance: number;
  /** Raise the guidance along the pipelines' cosine. */
  readonly dynamic: boolean;
  /** For video to video: the share of the steps that is made, above 0 and at most 1. */
  readonly strength: number;
  /** Decode in overlapping tiles when frames are large, which needs less memory. */
  readonly tiling: boolean;
  /** Run both halves of guidance as one batch of two: more memory, sometimes less time. */
  readonly batched: boolean;
  /** Keep the transformer's weights in host memory: far less GPU memory, and every pass copies them. Default false. */
  readonly streamed?: boolean | undefined;
  /** Storage of weights and activations; by default that of the checkpoint. */
  readonly dtype?: StorageType | undefined;
}

/** One video to make. */
export interface SampleRequest {
  /** What the video shows. */
  readonly prompt: string;
  /** What to guide away from; empty by default. */
  readonly negative?: string | undefined;
  /** Decides the noise: equal requests with equal seeds give equal bits. */
  readonly seed: number;
  /** First picture, for image-to-video models; of any size. */
  readonly image?: RgbFrames | undefined;
  /** Video to start from, `frames` frames of any size. */
  readonly video?: RgbFrames | undefined;
}

/** The defaults of the diffusers pipelines for a model, with the DPM sampler. */
export function defaultSettings(model: TransformerConfig): SampleSettings {
  return {
    frames: model.sample_frames,
    height: model.sample_height * LATENT_PIXELS,
    width: model.sample_width * LATENT_PIXELS,
    sampler: "dpm",
    steps: 50,
    guidance: 6,
    dynamic: false,
    strength: 0.8,
    tiling: true,
    batched: false,
  };
}

/** The settings that distinguish two samples of one prompt, in a few words. */
export function describeSettings(settings: SampleSettings): string {
  const { sampler, steps, guidance, dynamic, width, height, frames } = settings;
  const strength = guidance <= 1 ? "no guidance" : `${dynamic ? "dynamic " : ""}guidance ${guidance}`;
  return `${sampler.toUpperCase()}, ${steps} steps, ${strength}, ${frames} frames of ${width}x${height}`;
}

/** What is odd about the settings although the model can do it. */
export function settingNotes(model: TransformerConfig, { frames, height, width }: SampleSettings): string[] {
  const latents = latentSize(model, [frames, height, width]).frames;
  const made = decodedFrames(latents, model.temporal_compression_ratio);
  if (made === frames) return [];
  return [`${frames} frames become ${latents} latent frames, which decode to ${made} frames, as in diffusers`];
}

/** Height and width step of every model: eight pixels a latent, two latents a patch. */
const SIZE_STEP = 2 * LATENT_PIXELS;

/**
 * Checks settings and requests against the model.
 *
 * @throws {UserErrors} listing everything the model cannot do.
 */
export function checkRequests(
  model: TransformerConfig,
  settings: SampleSettings,
  requests: readonly SampleRequest[],
): void {
  const problems = settingProblems(model, settings);
  const imageModel = isImageToVideo(model);
  requests.forEach(({ prompt, image, video }, i) => {
    const name = `video ${i + 1} ("${prompt.slice(0, 40)}")`;
    if (imageModel && image === undefined) problems.push(`${name} has no image: this is an image-to-video model`);
    if (!imageModel && image !== undefined) problems.push(`${name} has an image: this is a text-to-video model`);
    if (imageModel && video !== undefined) {
      problems.push(`${name} has a video: only text-to-video models start from one`);
    }
    if (video !== undefined && video.frames !== settings.frames) {
      problems.push(`${name} starts from ${video.frames} frames: expected ${settings.frames}`);
    }
  });
  if (requests.some(({ video }) => video !== undefined)) problems.push(...videoProblems(model, settings));
  if (problems.length > 0) {
    throw new UserErrors(
      "Cannot sample with these settings",
      problems,
      "correct the settings or leave them to the model",
    );
  }
}

/**
 * Video to video: a strength that leaves a step, whole latent frames, and no padding frame, which would have no video
 * behind it.
 */
function videoProblems(
  model: TransformerConfig,
  { frames, height, width, steps, strength }: SampleSettings,
): string[] {
  const problems: string[] = [];
  if (!(strength > 0 && strength <= 1) || Math.floor(steps * strength) < 1) {
    problems.push(
      `strength is ${strength}: expected a number above 0, at most 1, that leaves at least one of ${steps} steps`,
    );
  }
  const ratio = model.temporal_compression_ratio;
  const { frames: decoded, padding } = latentSize(model, [frames, height, width]);
  if ((frames - 1) % ratio === 0 && padding === 0) return problems;
  const fits = (latents: number) => latents > 0 && latentPadding(model, latents) === 0;
  const nearest = [decoded - 1, decoded, decoded + 1].filter(fits).map((latents) => ratio * (latents - 1) + 1);
  const pairs = padding > 0 ? " and, as CogVideoX1.5 pairs latent frames, an even number of them" : "";
  problems.push(
    `frames is ${frames}: video to video needs whole latent frames${pairs}, for instance ${nearest.join(" or ")}`,
  );
  return problems;
}

function settingProblems(model: TransformerConfig, settings: SampleSettings): string[] {
  const problems: string[] = [];
  const { frames, height, width, steps, guidance } = settings;
  if (!Number.isInteger(frames) || frames < 1) problems.push(`frames is ${frames}: expected an integer from 1`);
  for (const [name, value] of [["height", height], ["width", width]] as const) {
    if (!Number.isInteger(value) || value < SIZE_STEP || value % SIZE_STEP !== 0) {
      problems.push(`${name} is ${value}: expected a multiple of ${SIZE_STEP}`);
    }
  }
  const [fixedHeight, fixedWidth] = [model.sample_height * LATENT_PIXELS, model.sample_width * LATENT_PIXELS];
  if (model.use_learned_positional_embeddings && (height !== fixedHeight || width !== fixedWidth)) {
    problems.push(
      `the size is ${width}x${height}: the learned positions of this model fit ${fixedWidth}x${fixedHeight} only`,
    );
  }
  if (!Number.isInteger(steps) || steps < 1 || steps > 1000) {
    problems.push(`steps is ${steps}: expected an integer from 1 to 1000`);
  }
  if (!Number.isFinite(guidance)) problems.push(`guidance is ${guidance}: expected a number`);
  return problems;
}
