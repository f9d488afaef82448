/** Between bytes of pixels and the model's range. */
import type { RgbFrames } from "./video.ts";

/** x / 255 * 2 - 1 of every byte, each operation rounded to f32 as PyTorch does. */
const LEVELS = Float32Array.from({ length: 256 }, (_, x) => Math.fround(Math.fround(x / 255) * 2) - 1);

/** RGB bytes [F, H, W, 3] as f32 [3, F, H, W] in [-1, 1]. */
export function normalise(video: RgbFrames): Float32Array<ArrayBuffer> {
  const { data } = video;
  const pixels = video.frames * video.height * video.width;
  if (data.length !== pixels * 3) {
    throw new RangeError(
      `Cannot normalise as ${data.length} bytes are not ${video.frames} RGB frames of ${video.width}x${video.height}`,
    );
  }
  const out = new Float32Array(pixels * 3);
  for (let channel = 0; channel < 3; channel++) {
    const plane = out.subarray(channel * pixels, (channel + 1) * pixels);
    for (let i = 0; i < pixels; i++) plane[i] = LEVELS[data[3 * i + channel]!]!;
  }
  return out;
}

/**
 * f32 [3, F, H, W] as RGB bytes [F, H, W, 3]: 255 * clamp(y / 2 + 1/2), halves to even, each operation rounded to f32.
 */
export function toPixels(
  values: Float32Array,
  size: { readonly frames: number; readonly height: number; readonly width: number },
): RgbFrames {
  const { frames, height, width } = size;
  const pixels = frames * height * width;
  if (values.length !== pixels * 3) {
    throw new RangeError(`Cannot make pixels as ${values.length} values are not [3, ${frames}, ${height}, ${width}]`);
  }
  const data = new Uint8Array(pixels * 3);
  // A clamped array rounds halves to even when it stores.
  const rounded = new Uint8ClampedArray(data.buffer);
  for (let channel = 0; channel < 3; channel++) {
    const plane = values.subarray(channel * pixels, (channel + 1) * pixels);
    for (let i = 0; i < pixels; i++) {
      const unit = Math.min(1, Math.max(0, Math.fround(plane[i]! / 2 + 0.5)));
      rounded[3 * i + channel] = Math.fround(unit * 255);
    }
  }
  return { data, frames, height, width };
}
