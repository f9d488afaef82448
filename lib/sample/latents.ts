/** Latents between the autoencoder [channels, frames, h, w] and the transformer [frames, channels, h, w]. */
import { resizeImage } from "../data/video/resize.ts";
import { normalise } from "../data/video/normalise.ts";
import type { Size } from "../data/video/geometry.ts";
import type { RgbFrames } from "../data/video/video.ts";
import { type Posterior, samplePosterior } from "../models/vae/vae.ts";
import type { VaeConfig } from "../models/vae/config.ts";
import { emptyVolume, type Volume } from "../models/vae/volume.ts";

/**
 * Frames that `latents` latent frames decode to: the decoder takes them in pairs, and only an odd one decodes to a
 * single frame.
 */
export function decodedFrames(latents: number, ratio: number): number {
  return latents % 2 === 1 ? ratio * (latents - 1) + 1 : ratio * latents;
}

/** [channels, frames, h, w] as [frames, channels, h, w], times `factor`. */
export function framesFirst({ data, shape }: Volume, factor: number): Float32Array<ArrayBuffer> {
  const [channels, frames, height, width] = shape;
  const plane = height * width;
  const out = new Float32Array(data.length);
  for (let f = 0; f < frames; f++) {
    for (let c = 0; c < channels; c++) {
      const from = (c * frames + f) * plane;
      const to = (f * channels + c) * plane;
      for (let i = 0; i < plane; i++) out[to + i] = data[from + i]! * factor;
    }
  }
  return out;
}

/** [frames, channels, h, w] without its first `drop` frames as [channels, frames, h, w], times `factor`. */
export function channelsFirst(
  latents: Float32Array,
  [frames, channels, height, width]: readonly [number, number, number, number],
  { drop, factor }: { readonly drop: number; readonly factor: number },
): Volume {
  const plane = height * width;
  const volume = emptyVolume([channels, frames - drop, height, width]);
  for (let f = drop; f < frames; f++) {
    for (let c = 0; c < channels; c++) {
      const from = (f * channels + c) * plane;
      const to = (c * (frames - drop) + f - drop) * plane;
      for (let i = 0; i < plane; i++) volume.data[to + i] = latents[from + i]! * factor;
    }
  }
  return volume;
}

/**
 * Pictures resized one by one with Lanczos as the diffusers pipelines do (the aspect ratio is not kept), in [-1, 1].
 */
export function pixelVolume(video: RgbFrames, { width: newWidth, height: newHeight }: Size): Volume {
  const { frames, width, height, data } = video;
  const size = { width: newWidth, height: newHeight };
  if (width === newWidth && height === newHeight) {
    return { data: normalise(video), shape: [3, frames, height, width] };
  }
  const bytes = size.width * size.height * 3;
  const resized = new Uint8Array(frames * bytes);
  for (let f = 0; f < frames; f++) {
    const picture = data.subarray(f * width * height * 3, (f + 1) * width * height * 3);
    resized.set(resizeImage({ data: picture, frames: 1, width, height }, size, "lanczos").data, f * bytes);
  }
  const all = { data: resized, frames, ...size };
  return { data: normalise(all), shape: [3, frames, size.height, size.width] };
}

/**
 * The image condition [frames, channels, h, w]: a sample of the image's posterior in front, zeros behind. CogVideoX1.5
 * was trained with latents divided by the scaling factor here (`invert_scale_latents`).
 */
export function imageCondition(
  posterior: Posterior,
  noise: ArrayLike<number>,
  { scaling_factor, invert_scale_latents }: VaeConfig,
  frames: number,
): Float32Array<ArrayBuffer> {
  const image = samplePosterior(posterior, noise);
  const factor = invert_scale_latents ? 1 / scaling_factor : scaling_factor;
  const condition = new Float32Array(image.data.length * frames);
  condition.set(framesFirst(image, factor));
  return condition;
}
