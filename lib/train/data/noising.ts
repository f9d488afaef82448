/**
 * How a sample is noised and weighed, as functions of the seed and its global index alone: neither ranks nor resuming
 * change what a step sees.
 */
import type { TrainConfig } from "../../config/config.ts";
import { RandomStream } from "../../data/random/random.ts";
import { UserError } from "../../errors.ts";

/** Throws UserError unless the band of the config lies in a schedule of `count` timesteps. */
export function requireTimesteps({ timestep_min, timestep_max = timestep_min }: TrainConfig, count: number): void {
  if (timestep_max < count) return;
  throw new UserError(
    `timestep_min and timestep_max reach timestep ${timestep_max}: the model's schedule has 0 to ${count - 1}`,
    "lower them",
  );
}

/**
 * The timestep of a sample. Logit-normal as in arXiv:2403.03206, section 3.1: the logistic function of a normal number
 * is the place in the band.
 */
export function drawTimestep(config: TrainConfig, count: number, sample: number): number {
  const { seed, timestep_min: first, timestep_max: last = count - 1, timestep_logit_mean, timestep_logit_std } = config;
  const stream = new RandomStream({ seed, purpose: "timestep", step: 0, sample });
  const span = last - first + 1;
  if (config.timestep_sampling === "uniform") return first + stream.integer(span);
  const [normal] = stream.fillNormals(new Float64Array(1));
  const place = 1 / (1 + Math.exp(-(timestep_logit_mean + timestep_logit_std * normal!)));
  return first + Math.min(span - 1, Math.floor(place * span));
}

/** Whether the empty prompt takes the place of a sample's. */
export function dropsCaption({ seed, caption_dropout }: TrainConfig, sample: number): boolean {
  return new RandomStream({ seed, purpose: "captionDropout", step: 0, sample }).uniform() < caption_dropout;
}

/**
 * Standard normal noise [f, channels, plane]; with `noise_offset`, every channel's is shifted by a normal number of its
 * own.
 */
export function drawNoise(
  { seed, noise_offset }: TrainConfig,
  { frames, channels, plane }: { readonly frames: number; readonly channels: number; readonly plane: number },
  sample: number,
): Float32Array<ArrayBuffer> {
  const normals = (step: number, count: number) =>
    new RandomStream({ seed, purpose: "noise", step, sample }).fillNormals(new Float32Array(count));
  const noise = normals(0, frames * channels * plane);
  if (noise_offset === 0) return noise;
  const shifts = normals(1, channels);
  for (let i = 0; i < noise.length; i++) noise[i]! += noise_offset * shifts[Math.floor(i / plane) % channels]!;
  return noise;
}

/**
 * Weight of a sample's loss at cumulative `alpha` of its timestep. Min-SNR (arXiv:2303.09556) weighs the error of the
 * clean latents by min(SNR, gamma); the error of the velocity is SNR + 1 times that one, with SNR = alpha / (1 -
 * alpha).
 */
export function lossWeight({ snr_gamma }: TrainConfig, alpha: number): number {
  return snr_gamma === undefined ? 1 : Math.min(alpha, snr_gamma * (1 - alpha));
}
