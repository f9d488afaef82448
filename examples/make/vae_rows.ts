/** Which rows of a video [frames, height, width, channels] every layer of the autoencoder that moves rows reads. */
import type { RowLists } from "./sparse_rows.ts";

/** Frames, height and width. */
export type Grid = readonly [number, number, number];

/** Rows by output position and tap: positions outside are left out, frames before the first are copies of it. */
export interface Gathering extends RowLists {
  /** Frames, height and width of the output. */
  readonly grid: Grid;
  readonly taps: number;
}

const row = ([, height, width]: Grid, t: number, y: number, x: number) => (t * height + y) * width + x;

/** Calls `visit` for every position in order. */
function positions<T>([frames, height, width]: Grid, visit: (t: number, y: number, x: number) => T): T[] {
  const found: T[] = [];
  for (let t = 0; t < frames; t++) {
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) found.push(visit(t, y, x));
  }
  return found;
}

/** A window [kt, k, k] at every position `stride * p - padding` of the grid, seen at `zoom` times its height and width. */
function windows(
  grid: Grid,
  output: Grid,
  { kt, k, stride = 1, padding, zoom = 1, frameOf = (t) => t }: {
    kt: number;
    k: number;
    stride?: number;
    padding: number;
    zoom?: number;
    frameOf?: (t: number) => number;
  },
): Gathering {
  const [frames, height, width] = grid;
  const lists = positions(output, (t, y, x) =>
    positions([kt, k, k], (dt, dy, dx) => {
      const [sy, sx] = [stride * y + dy - padding, stride * x + dx - padding];
      if (sy < 0 || sx < 0 || sy >= height * zoom || sx >= width * zoom) return [];
      const frame = Math.max(0, frameOf(t) - (kt - 1) + dt);
      return [row(grid, frame, Math.floor(sy / zoom), Math.floor(sx / zoom))];
    })).flat();
  return { sources: frames * height * width, lists, scale: 1, grid: output, taps: kt * k * k };
}

/** 3x3x3, causal in time. */
export function causalWindows(grid: Grid): Gathering {
  return windows(grid, grid, { kt: 3, k: 3, padding: 1 });
}

/** 3x3 of every frame with stride 2 and zeros below and right. */
export function downWindows(grid: Grid): Gathering {
  const [frames, height, width] = grid;
  return windows(grid, [frames, height / 2, width / 2], { kt: 1, k: 3, stride: 2, padding: 0 });
}

/** 3x3 of every frame at twice the size, and with `time` twice the frames but the first. */
export function upWindows(grid: Grid, time: boolean): Gathering {
  const [frames, height, width] = grid;
  const count = time ? 2 * frames - 1 : frames;
  const frameOf = time ? (t: number) => (t + 1) >> 1 : (t: number) => t;
  return windows(grid, [count, 2 * height, 2 * width], { kt: 1, k: 3, padding: 1, zoom: 2, frameOf });
}

/** Means of pairs of frames behind the first, which stays. */
export function halvedFrames(grid: Grid): Gathering {
  const [frames, height, width] = grid;
  const half: Grid = [(frames + 1) / 2, height, width];
  const lists = positions(half, (t, y, x) => [Math.max(0, 2 * t - 1), 2 * t].map((frame) => row(grid, frame, y, x)));
  return { sources: frames * height * width, lists, scale: 0.5, grid: half, taps: 1 };
}
