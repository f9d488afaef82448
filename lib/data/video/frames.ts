/** Which frames of a clip become a training sample. */

/**
 * `time` (default) picks frames at the model's frame rate, so motion keeps its speed whatever the clip's length and
 * rate. `stride` is the original trainer's rule, which ignores the frame rate: every `floor(n / F)`-th frame, so a clip
 * of 97 frames plays at its own speed and one of 98 at double speed.
 */
export type FrameRule = "time" | "stride";

/** What the choice depends on, as {@linkcode probe} reports it. */
export interface FrameSource {
  readonly frames: number;
  readonly fps: number;
  /** Seconds at which each frame is shown, ascending from 0; an even grid of `fps` when not given. */
  readonly timestamps?: Float64Array;
}

/** Options of {@linkcode selectFrames}. */
export interface FrameOptions {
  /** Wanted number of frames F. */
  readonly frames: number;
  /** Frame rate of the model: 8 for CogVideoX 1.0, 16 for 1.5. Not used by the `stride` rule. */
  readonly fps: number;
  /** Which rule ("time"). */
  readonly rule?: FrameRule;
}

/** The chosen frames of one clip. */
export interface FrameChoice {
  /** F frame numbers from 0, ascending; repeats where the clip is too short or slower than the model. */
  readonly indices: readonly number[];
  /** How many entries at the end repeat the last frame because the clip is too short. */
  readonly padded: number;
  /** What the user should know about this choice, undefined when every frame is a distinct one. */
  readonly warning: string | undefined;
}

/** Last frame repeated until F, or every `floor(n / F)`-th frame. */
function strideIndices(n: number, wanted: number): number[] {
  const step = Math.max(1, Math.floor(n / wanted));
  return Array.from({ length: wanted }, (_, i) => Math.min(i * step, n - 1));
}

/** Number of the frame shown closest to `seconds`, the earlier one on a tie, searching from `from` on. */
function nearestFrame(times: Float64Array, seconds: number, from: number): number {
  // Timestamps come in the container's time base (often 1/90000 s); half of that must not break a tie.
  const tolerance = 1e-5;
  let frame = from;
  const distance = (candidate: number) => Math.abs(times[candidate]! - seconds);
  while (frame + 1 < times.length && distance(frame + 1) < distance(frame) - tolerance) frame++;
  return frame;
}

/**
 * Chooses F frames from the start of a clip.
 *
 * Rule `time`: entry k is the frame whose timestamp is nearest to `k / fps` seconds. A clip shorter than `F / fps`
 * seconds is filled up with its last frame; what lies beyond is not used.
 *
 * @throws {RangeError} if a count or rate is not positive.
 */
export function selectFrames(source: FrameSource, options: FrameOptions): FrameChoice {
  const { frames: wanted, fps, rule = "time" } = options;
  const n = source.frames;
  for (const [name, value] of Object.entries({ frames: wanted, "frames of the clip": n })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`Cannot select frames as ${name} must be a positive integer: current value is ${value}`);
    }
  }
  if (rule === "stride") {
    const padded = Math.max(0, wanted - n);
    const warning = padded === 0
      ? undefined
      : `has ${n} frames, ${wanted} are wanted: the last one is repeated ${padded} times`;
    return { indices: strideIndices(n, wanted), padded, warning };
  }
  if (!(fps > 0) || !(source.fps > 0)) {
    throw new RangeError(
      `Cannot select frames as frame rates must be positive: current values are ${source.fps} and ${fps}`,
    );
  }
  const times = source.timestamps ?? Float64Array.from({ length: n }, (_, i) => i / source.fps);
  const end = times[n - 1]! + 1 / source.fps;
  const indices: number[] = [];
  let padded = 0;
  let previous = 0;
  for (let k = 0; k < wanted; k++) {
    // The last frame is shown for one frame period; from its end on there is nothing left to show.
    if (k / fps >= end - 1e-9) padded++;
    previous = nearestFrame(times, k / fps, previous);
    indices.push(previous);
  }
  return { indices, padded, warning: timeWarning(indices, padded, end, options) };
}

function timeWarning(
  indices: readonly number[],
  padded: number,
  end: number,
  options: FrameOptions,
): string | undefined {
  const { frames, fps } = options;
  if (padded > 0) {
    return `lasts ${end.toFixed(2)} s, ${frames} frames at ${fps} fps need ${(frames / fps).toFixed(2)} s: ` +
      `the last frame is repeated ${padded} times`;
  }
  const distinct = new Set(indices).size;
  if (distinct === indices.length) return undefined;
  return `has fewer than ${fps} frames per second: only ${distinct} of the ${frames} frames are different`;
}
