/** Channels-first video on the host, and its way to and from the channels-last chunks of the GPU. */

/** Numbers [channels, frames, height, width]: pixels in [-1, 1], or latents. */
export interface Volume {
  readonly data: Float32Array<ArrayBuffer>;
  readonly shape: readonly [number, number, number, number];
}

/** A volume of zeros. */
export function emptyVolume(shape: readonly [number, number, number, number]): Volume {
  return { data: new Float32Array(shape[0] * shape[1] * shape[2] * shape[3]), shape };
}

/** Throws when the data do not have the length the shape promises. */
export function checkVolume(what: string, { data, shape }: Volume): void {
  const expected = shape.reduce((product, length) => product * length, 1);
  if (data.length !== expected || expected === 0) {
    throw new RangeError(`${what} has ${data.length} numbers, expected ${expected} for shape [${shape}]`);
  }
}

/** A rectangle of pixels or latents: half-open ranges of rows and columns. */
export interface Rectangle {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/**
 * Frames `from` to `to` (exclusive) of a rectangle as [frames, h, w, channels], channels padded with zeros to `width`.
 * Frames before the beginning are copies of frame 0.
 */
export function gatherChunk(
  { data, shape: [channels, frames, height, columns] }: Volume,
  { top, bottom, left, right }: Rectangle,
  { from, to, width }: { readonly from: number; readonly to: number; readonly width: number },
): Float32Array<ArrayBuffer> {
  const [h, w] = [bottom - top, right - left];
  const chunk = new Float32Array((to - from) * h * w * width);
  for (let t = from; t < to; t++) {
    for (let c = 0; c < channels; c++) {
      const plane = (c * frames + Math.max(0, t)) * height * columns;
      for (let y = 0; y < h; y++) {
        const source = plane + (top + y) * columns + left;
        const target = ((t - from) * h + y) * w * width + c;
        for (let x = 0; x < w; x++) chunk[target + x * width] = data[source + x]!;
      }
    }
  }
  return chunk;
}

/** Writes a chunk [frames, h, w, width] to frames `from` onwards of a volume of the same height and width. */
export function scatterChunk(chunk: Float32Array, width: number, volume: Volume, from: number): void {
  const { data, shape: [channels, total, h, w] } = volume;
  const area = h * w;
  const frames = chunk.length / (area * width);
  for (let c = 0; c < channels; c++) {
    for (let t = 0; t < frames; t++) {
      const target = (c * total + from + t) * area;
      const source = t * area * width + c;
      for (let i = 0; i < area; i++) data[target + i] = chunk[source + i * width]!;
    }
  }
}
