/**
 * What a person would say they see in a clip of the toy world: the colour, how much of it, and the way it moves. Knows
 * pixels and nothing of models.
 */
import { type Colour, COLOURS, type Direction, DIRECTIONS, GROUND } from "../../examples/make/world.ts";
import type { RgbFrames } from "../../lib/data/video/video.ts";

/** Distance from the ground, in bytes over three channels, from which a pixel belongs to the shape. */
const FOREGROUND = 90;

/** Pixels of the smallest spot: a tenth of the world's smallest shape. */
const SMALLEST = 45;

/** What was found. */
export interface Sight {
  readonly colour: Colour;
  /** Of the shape's pixels, those nearest to that colour. */
  readonly share: number;
  readonly direction: Direction;
}

interface Spot {
  readonly area: number;
  readonly centre: readonly [number, number];
  /** Pixels by the named colour that is nearest. */
  readonly colours: ReadonlyMap<Colour, number>;
}

function distance(pixel: ArrayLike<number>, at: number, [red, green, blue]: readonly [number, number, number]): number {
  return Math.hypot(pixel[at]! - red, pixel[at + 1]! - green, pixel[at + 2]! - blue);
}

/** The best by a score. */
function bestOf<T>(values: readonly T[], score: (value: T) => number): T {
  return values.reduce((best, value) => score(value) > score(best) ? value : best);
}

const named = Object.keys(COLOURS) as Colour[];

function spotOf({ data, width, height }: RgbFrames, frame: number): Spot | undefined {
  const start = 3 * frame * width * height;
  const colours = new Map<Colour, number>();
  let [area, x, y] = [0, 0, 0];
  for (let i = 0; i < width * height; i++) {
    if (distance(data, start + 3 * i, GROUND) <= FOREGROUND) continue;
    area++;
    x += i % width + 0.5;
    y += Math.floor(i / width) + 0.5;
    const colour = bestOf(named, (name) => -distance(data, start + 3 * i, COLOURS[name]));
    colours.set(colour, 1 + (colours.get(colour) ?? 0));
  }
  return area < SMALLEST ? undefined : { area, centre: [x / area, y / area], colours };
}

/** Looks at a clip; undefined where fewer than half of the frames show anything. */
export function look(video: RgbFrames): Sight | undefined {
  const spots = Array.from({ length: video.frames }, (_, frame) => spotOf(video, frame) ?? []).flat();
  if (spots.length < video.frames / 2) return undefined;
  const pixelsOf = (colour: Colour) => spots.reduce((sum, { colours }) => sum + (colours.get(colour) ?? 0), 0);
  const colour = bestOf(named, pixelsOf);
  const [first, last] = [spots[0]!.centre, spots.at(-1)!.centre];
  const along = (way: Direction) =>
    DIRECTIONS[way][0] * (last[0] - first[0]) + DIRECTIONS[way][1] * (last[1] - first[1]);
  return {
    colour,
    share: pixelsOf(colour) / spots.reduce((sum, { area }) => sum + area, 0),
    direction: bestOf(Object.keys(DIRECTIONS) as Direction[], along),
  };
}
