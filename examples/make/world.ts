/** The toy world of the example model: one coloured shape that moves over a dark ground, with the sentence that says so. */
import type { RandomStream } from "../../lib/data/random/random.ts";
import type { RgbFrames } from "../../lib/data/video/video.ts";

/** Frames, height and width of every clip. */
export const FRAMES = 9;
export const SIZE = 64;

/** Frames per second: slow enough that a clip of 9 frames can be followed. */
export const FPS = 8;

/** An RGB colour in bytes. */
export type Rgb = readonly [number, number, number];

/** The ground. */
export const GROUND: Rgb = [22, 24, 34];

/** The colours that have a name; the example model is not shown purple. */
export const COLOURS = {
  red: [226, 44, 44],
  green: [40, 170, 80],
  blue: [50, 96, 235],
  yellow: [245, 205, 45],
  white: [238, 238, 238],
  purple: [158, 64, 214],
} as const satisfies Readonly<Record<string, Rgb>>;

export type Colour = keyof typeof COLOURS;

/** Unit step of every direction, y downwards. */
export const DIRECTIONS = {
  "to the right": [1, 0],
  "to the left": [-1, 0],
  up: [0, -1],
  down: [0, 1],
} as const;

export type Direction = keyof typeof DIRECTIONS;

/** Tips and notches of a star lie at these radii. */
const STAR = { tip: 1.25, notch: 0.52 };

/** Whether a point (x, y), y downwards, lies inside; the sizes give all shapes about the same area. */
export const SHAPES = {
  circle: (x: number, y: number) => x * x + y * y < 1,
  square: (x: number, y: number) => Math.abs(x) < 0.9 && Math.abs(y) < 0.9,
  triangle: (x: number, y: number) => y < 0.8 && y > 2 * Math.abs(x) - 1.25,
  star: (x: number, y: number) => {
    const fifth = 2 * Math.PI / 5;
    const angle = Math.atan2(x, -y) + 2 * Math.PI;
    // Folded to the half of a point between its tip, at 0, and the notch at fifth / 2.
    const folded = Math.abs((angle + fifth / 2) % fifth - fifth / 2);
    const [along, across] = [Math.hypot(x, y) * Math.cos(folded), Math.hypot(x, y) * Math.sin(folded)];
    const [dx, dy] = [STAR.notch * Math.cos(fifth / 2) - STAR.tip, STAR.notch * Math.sin(fifth / 2)];
    return dx * across - dy * (along - STAR.tip) > 0;
  },
  cross: (x: number, y: number) =>
    Math.min(Math.abs(x), Math.abs(y)) < 0.4 && Math.max(Math.abs(x), Math.abs(y)) < 1.05,
} as const;

export type Shape = keyof typeof SHAPES;

/** What happens in one clip. Lengths are pixels; the centre is that of the middle frame. */
export interface Scene {
  readonly shape: Shape;
  readonly colour: Rgb;
  readonly ground: Rgb;
  readonly direction: Direction;
  readonly radius: number;
  readonly centre: readonly [number, number];
  /** Pixels per frame. */
  readonly speed: number;
}

/** The sentence for a clip. */
export function promptOf(colour: Colour, shape: Shape, direction: Direction): string {
  return `a ${colour} ${shape} moves ${direction}`;
}

/** A scene of the given kind with size, speed and place drawn so that the shape stays inside the picture. */
export function drawScene(random: RandomStream, colour: Rgb, shape: Shape, direction: Direction): Scene {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const radius = between(12, 15);
  const speed = between(2, 3);
  const reach = 1.25 * radius;
  const travel = speed * (FRAMES - 1) / 2;
  const place = (step: number) => {
    const margin = Math.min(SIZE / 2, reach + Math.abs(step) * travel);
    return between(margin, SIZE - margin);
  };
  const [dx, dy] = DIRECTIONS[direction];
  return { shape, colour, ground: GROUND, direction, radius, speed, centre: [place(dx), place(dy)] };
}

/** Points per pixel along each axis: 16 levels of an edge. */
const SAMPLES = 4;

/** The frames of a scene. */
export function render({ shape, colour, ground, direction, radius, speed, centre }: Scene): RgbFrames {
  const inside = SHAPES[shape];
  const data = new Uint8Array(FRAMES * SIZE * SIZE * 3);
  const [dx, dy] = DIRECTIONS[direction];
  for (let frame = 0; frame < FRAMES; frame++) {
    const moved = speed * (frame - (FRAMES - 1) / 2);
    const [cx, cy] = [centre[0] + dx * moved, centre[1] + dy * moved];
    for (let y = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++) {
        const covered = Math.abs(x + 0.5 - cx) > 1.4 * radius || Math.abs(y + 0.5 - cy) > 1.4 * radius
          ? 0
          : coverage(inside, (x - cx) / radius, (y - cy) / radius, 1 / radius);
        const at = ((frame * SIZE + y) * SIZE + x) * 3;
        for (let c = 0; c < 3; c++) data[at + c] = Math.round(ground[c]! + covered * (colour[c]! - ground[c]!));
      }
    }
  }
  return { data, frames: FRAMES, height: SIZE, width: SIZE };
}

/** The part of the square with corner (x, y) that lies inside. */
function coverage(inside: (x: number, y: number) => boolean, x: number, y: number, side: number): number {
  let count = 0;
  for (let i = 0; i < SAMPLES; i++) {
    for (let j = 0; j < SAMPLES; j++) {
      if (inside(x + (i + 0.5) / SAMPLES * side, y + (j + 0.5) / SAMPLES * side)) count++;
    }
  }
  return count / SAMPLES ** 2;
}
