/**
 * Resizes one 8-bit RGB picture with the integer arithmetic of the libraries that other trainers and pipelines use.
 *
 * Training clips and pictures go through ffmpeg by default, so that a picture and the clip it begins agree. These rules
 * are for matching others: `opencv` is what the original trainer does to the picture of image-to-video, `bilinear`
 * (antialiased) is CogKit's, and `lanczos` is what the diffusers pipelines apply to a picture of another size before
 * sampling.
 */
import type { Size } from "./geometry.ts";
import type { RgbFrames } from "./video.ts";

/** `opencv`: half-pixel bilinear without antialiasing. `bilinear`, `lanczos`: Pillow's antialiased filters. */
export type ResizeRule = "opencv" | "bilinear" | "lanczos";

/** For each output position the first input position and the integer weights from there on. */
interface Taps {
  readonly first: Int32Array;
  readonly weights: readonly Int32Array[];
}

/** Fractional bits of OpenCV's weights. */
const OPENCV_BITS = 11;
/** Fractional bits of Pillow's weights: 32 bits less 8 of the pixel and 2 of head room. */
const PILLOW_BITS = 22;

/**
 * Beyond the first and last centre the library drops the fraction along rows of pixels, but blends an edge row with
 * itself.
 */
function opencvTaps(from: number, to: number, keepFraction: boolean): Taps {
  const first = new Int32Array(to);
  const weights: Int32Array[] = [];
  const one = 1 << OPENCV_BITS;
  for (let i = 0; i < to; i++) {
    const centre = Math.fround((i + 0.5) * (from / to) - 0.5);
    const below = Math.floor(centre);
    first[i] = below;
    const inside = below >= 0 && below < from - 1;
    const fraction = inside || keepFraction ? Math.fround(centre - below) : 0;
    weights.push(Int32Array.of(Math.round(Math.fround(1 - fraction) * one), Math.round(fraction * one)));
  }
  return { first, weights };
}

function clamp(position: number, length: number): number {
  return Math.min(Math.max(position, 0), length - 1);
}

function resizeOpencv(image: RgbFrames, size: Size): Uint8Array<ArrayBuffer> {
  const { data, width } = image;
  const columns = opencvTaps(width, size.width, false);
  const rows = opencvTaps(image.height, size.height, true);
  const out = new Uint8Array(size.width * size.height * 3);
  for (let y = 0; y < size.height; y++) {
    const [w0 = 0, w1 = 0] = rows.weights[y]!;
    const upper = clamp(rows.first[y]!, image.height) * width;
    const lower = clamp(rows.first[y]! + 1, image.height) * width;
    for (let x = 0; x < size.width; x++) {
      const [h0 = 0, h1 = 0] = columns.weights[x]!;
      const left = clamp(columns.first[x]!, width);
      const right = clamp(columns.first[x]! + 1, width);
      for (let c = 0; c < 3; c++) {
        const top = data[3 * (upper + left) + c]! * h0 + data[3 * (upper + right) + c]! * h1;
        const bottom = data[3 * (lower + left) + c]! * h0 + data[3 * (lower + right) + c]! * h1;
        // The library drops 4 bits before the second product and 16 after it, so that 16-bit lanes suffice.
        out[3 * (y * size.width + x) + c] = (((w0 * (top >> 4)) >> 16) + ((w1 * (bottom >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return out;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

const FILTERS: Record<Exclude<ResizeRule, "opencv">, { support: number; at: (x: number) => number }> = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  lanczos: { support: 3, at: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function pillowTaps(from: number, to: number, rule: keyof typeof FILTERS): Taps {
  const filter = FILTERS[rule];
  const scale = from / to;
  const widened = Math.max(scale, 1);
  const support = filter.support * widened;
  const first = new Int32Array(to);
  const weights: Int32Array[] = [];
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const taps = Array.from({ length: end - start }, (_, k) => filter.at((k + start - centre + 0.5) / widened));
    const sum = taps.reduce((a, b) => a + b, 0);
    first[i] = start;
    // Halves go away from zero.
    weights.push(Int32Array.from(taps, (tap) => Math.trunc((tap / sum) * 2 ** PILLOW_BITS + (tap < 0 ? -0.5 : 0.5))));
  }
  return { first, weights };
}

/** One pass along an axis: `lines` lines that start `lineStep` apart, positions `step` apart. */
function pillowPass(
  data: Uint8Array,
  taps: Taps,
  lines: number,
  strides: { readonly lineIn: number; readonly in: number; readonly lineOut: number; readonly out: number },
): Uint8Array<ArrayBuffer> {
  const result = new Uint8ClampedArray(lines * taps.first.length * 3);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < taps.first.length; i++) {
      const weights = taps.weights[i]!;
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (PILLOW_BITS - 1);
        let at = line * strides.lineIn + taps.first[i]! * strides.in + c;
        for (let k = 0; k < weights.length; k++, at += strides.in) sum += data[at]! * weights[k]!;
        result[line * strides.lineOut + i * strides.out + c] = sum >> PILLOW_BITS;
      }
    }
  }
  return new Uint8Array(result.buffer);
}

function resizePillow(image: RgbFrames, size: Size, rule: keyof typeof FILTERS): Uint8Array<ArrayBuffer> {
  const row = size.width * 3;
  const columns = pillowTaps(image.width, size.width, rule);
  const rows = pillowTaps(image.height, size.height, rule);
  const wide = { lineIn: image.width * 3, in: 3, lineOut: row, out: 3 };
  const narrowed = pillowPass(image.data, columns, image.height, wide);
  return pillowPass(narrowed, rows, size.width, { lineIn: 3, in: row, lineOut: 3, out: row });
}

/**
 * Resizes a single picture (`frames` 1), both axes independently.
 *
 * @throws {RangeError} if there is more than one frame or a size is not a positive integer.
 */
export function resizeImage(image: RgbFrames, size: Size, rule: ResizeRule): RgbFrames {
  if (image.frames !== 1 || image.data.length !== image.width * image.height * 3) {
    throw new RangeError(`Cannot resize as one RGB picture is expected: current value has ${image.frames} frames`);
  }
  if (!Number.isInteger(size.width) || !Number.isInteger(size.height) || size.width < 1 || size.height < 1) {
    throw new RangeError(`Cannot resize to ${size.width}x${size.height} as both must be positive integers`);
  }
  const data = rule === "opencv" ? resizeOpencv(image, size) : resizePillow(image, size, rule);
  return { data, frames: 1, width: size.width, height: size.height };
}
