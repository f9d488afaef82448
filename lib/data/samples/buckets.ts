/** Which of several training shapes a clip is cut to. */
import { type FrameRule, selectFrames } from "../video/frames.ts";
import type { Size } from "../video/geometry.ts";
import type { Probe } from "../video/probe.ts";

/** Frames and size that clips are trained at. */
export interface ClipShape {
  readonly frames: number;
  readonly size: Size;
}

/** What clips become: one shape, or the best of several. */
export interface ShapeOptions extends ClipShape {
  /** The shapes to choose from; `frames` and `size` alone where there are none. */
  readonly buckets?: readonly ClipShape[];
  /** Frame rate of the model. */
  readonly fps: number;
  /** How frames are chosen ("time"). */
  readonly frameRule?: FrameRule;
}

/** The shape of a clip with its place among the buckets. */
export interface ChosenShape extends ClipShape {
  readonly bucket: number;
}

/**
 * Buckets that keep this much less of the picture than the best are as good: 768x1360 and 480x848 differ by 0.3 % in
 * shape, and the lengths of the clips should decide between them.
 */
const AS_GOOD = 0.02;

/** A shape as it is written, `49x480x720`. */
export function shapeName({ frames, size: { height, width } }: ClipShape): string {
  return `${frames}x${height}x${width}`;
}

/** All shapes that there are to choose from. */
export function shapesOf({ frames, size, buckets = [] }: ShapeOptions): readonly ClipShape[] {
  return buckets.length === 0 ? [{ frames, size }] : buckets;
}

/** Share of the picture's area that a crop to the shape of `size` keeps, 0 to 1. */
export function keptShare({ width, height, pixelAspect }: Pick<Probe, "width" | "height" | "pixelAspect">, size: Size) {
  const ratio = (width * pixelAspect / height) / (size.width / size.height);
  return Math.min(ratio, 1 / ratio);
}

/**
 * Chooses the shape of a clip. A shape with more frames than the clip fills is out of the question, as its last frame
 * would be repeated; where all are, the shortest remain. Of those, the ones that keep most of the picture; of those,
 * the longest; of those, the ones that enlarge the clip least; of those, the largest.
 */
export function chooseShape(clip: Probe, options: ShapeOptions): ChosenShape {
  const { fps, frameRule: rule = "time" } = options;
  const all = shapesOf(options).map((shape, bucket) => ({ ...shape, bucket }));
  const shortest = Math.min(...all.map(({ frames }) => frames));
  const isFilled = ({ frames }: ClipShape) =>
    frames === shortest || selectFrames(clip, { frames, fps, rule }).padded === 0;
  const enlargement = ({ size }: ClipShape) =>
    Math.max(1, size.width / (clip.width * clip.pixelAspect), size.height / clip.height);
  const filled = all.filter(isFilled);
  const fitting = best(filled, ({ size }) => keptShare(clip, size), AS_GOOD);
  const longest = best(fitting, ({ frames }) => frames);
  const sharpest = best(longest, (shape) => -enlargement(shape));
  return best(sharpest, ({ size }) => size.width * size.height)[0]!;
}

/** Those whose score is the highest, or less by `tolerance` at most. */
function best<T>(candidates: readonly T[], score: (candidate: T) => number, tolerance = 0): T[] {
  const most = Math.max(...candidates.map(score));
  return candidates.filter((candidate) => score(candidate) >= most - tolerance);
}
