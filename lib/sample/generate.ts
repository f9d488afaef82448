/** The middle and the end of the pipeline: prepared requests to latents, latents to frames. */
import { join } from "node:path";
import type { DType } from "../../kernels/core/kernel.ts";
import { toPixels } from "../data/video/normalise.ts";
import type { RgbFrames } from "../data/video/video.ts";
import { ddimSteps } from "../diffusion/ddim.ts";
import { dpmSteps } from "../diffusion/dpm.ts";
import { alphasCumprod, parseScheduleConfig } from "../diffusion/schedule.ts";
import { keepStrength, type SamplerStep, spaceTimesteps } from "../diffusion/timesteps.ts";
import type { Session } from "../gpu/session.ts";
import type { ModelFolder } from "../models/folder/model_folder.ts";
import { type LatentSize, latentSize } from "../models/transformer/config.ts";
import type { Parameters } from "../models/transformer/parameters.ts";
import type { Vae } from "../models/vae/vae.ts";
import { type DenoiseConfig, Denoiser, recordDenoise, requireFinite } from "./denoise.ts";
import { guidanceScales } from "./guidance.ts";
import { channelsFirst } from "./latents.ts";
import { normals, type PreparedRequest } from "./prepare.ts";
import type { SampleSettings } from "./settings.ts";

/** Latents of a video with the size that settings ask for. */
function latentsOf({ transformer }: ModelFolder, { frames, height, width }: SampleSettings): LatentSize {
  return latentSize(transformer, [frames, height, width]);
}

/** The denoiser that settings ask for. */
export function denoiseConfig(model: ModelFolder, settings: SampleSettings, activation: DType): DenoiseConfig {
  const { frames, padding, ...size } = latentsOf(model, settings);
  const off = settings.guidance <= 1;
  return {
    model: model.transformer,
    shape: { ...size, frames: frames + padding, textRows: model.transformer.max_text_seq_length },
    activation,
    guidance: off ? "off" : settings.batched ? "batched" : "sequential",
    stochastic: settings.sampler === "dpm",
  };
}

/** Opens a denoiser on parameters that are on the device already. */
export function openDenoiser(
  session: Session,
  config: DenoiseConfig,
  parameters: Parameters,
  learned?: Float32Array<ArrayBuffer>,
): Denoiser {
  const recording = recordDenoise(session.device.target, session.limits, config, parameters);
  return new Denoiser(session, recording, learned);
}

/** The steps of a run, and the alpha its start is noised to in video to video. */
function plannedSteps(
  model: ModelFolder,
  { sampler, steps, strength }: SampleSettings,
  fromVideo: boolean,
): { steps: SamplerStep[]; alpha: number } {
  const file = join(model.path, "scheduler/scheduler_config.json");
  const schedule = parseScheduleConfig(model.scheduler, file);
  const alphas = alphasCumprod(schedule);
  const all = spaceTimesteps(steps, schedule.timestep_spacing, alphas.length);
  const timesteps = fromVideo ? keepStrength(all, strength) : all;
  return {
    steps: (sampler === "dpm" ? dpmSteps : ddimSteps)(alphas, timesteps),
    alpha: alphas[timesteps.timesteps[0]!]!,
  };
}

/** Where a generated video begins: noise alone, or sqrt(a) z + sqrt(1 - a) noise over the latents z of a video. */
export function startLatents(
  { request, start }: Pick<PreparedRequest, "request" | "start">,
  size: number,
  alpha: number,
): Float32Array<ArrayBuffer> {
  const noise = normals(size, request.seed, "initialLatents");
  if (start === undefined) return noise;
  const [signal, sigma] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)];
  return start.map((z, i) => signal * z + sigma * noise[i]!);
}

/** Progress of one video: `step` of `steps` is done. */
export interface DenoiseProgress {
  readonly step: number;
  readonly steps: number;
}

/**
 * Denoises one request, yielding after every step; the value returned at the end are the latents [f, 16, h, w].
 *
 * @throws {UserError} when the result is not finite.
 */
export async function* denoise(
  denoiser: Denoiser,
  model: ModelFolder,
  prepared: PreparedRequest,
  settings: SampleSettings,
  signal?: AbortSignal,
): AsyncGenerator<DenoiseProgress, Float32Array<ArrayBuffer>> {
  const { prompt, negative, condition, request } = prepared;
  const { size } = denoiser.recording.latents;
  const { steps, alpha } = plannedSteps(model, settings, prepared.start !== undefined);
  const scales = guidanceScales(steps.map(({ timestep }) => timestep), settings);
  const start = {
    latents: startLatents(prepared, size, alpha),
    prompt,
    negative,
    condition,
    noise: (step: number) => normals(size, request.seed, "samplerNoise", step),
  };
  for await (const step of denoiser.run(steps, start, { scales, signal })) {
    yield { step: step + 1, steps: steps.length };
  }
  const latents = await denoiser.read();
  requireFinite(latents, `"${request.prompt.slice(0, 40)}"`);
  return latents;
}

/** Drops the padding frames of CogVideoX1.5, decodes latents [f, 16, h, w] and turns them into bytes. */
export async function decodeLatents(
  vae: Vae,
  model: ModelFolder,
  latents: Float32Array,
  settings: SampleSettings,
): Promise<RgbFrames> {
  const { frames, padding, height, width } = latentsOf(model, settings);
  const channels = model.transformer.out_channels;
  const volume = channelsFirst(latents, [frames + padding, channels, height, width], {
    drop: padding,
    factor: 1 / vae.config.scaling_factor,
  });
  const { data, shape } = await vae.decode(volume);
  return toPixels(data, { frames: shape[1], height: shape[2], width: shape[3] });
}
