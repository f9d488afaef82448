/**
 * What a person would say they see in a clip of the toy world, and how much of it: the colour, the shape and the way it
 * moves. Knows pixels and outlines, and nothing of models.
 */
import {
  type Colour,
  COLOURS,
  type Direction,
  DIRECTIONS,
  GROUND,
  type Shape,
  SHAPES,
} from "../../examples/make/world.ts";
import type { RgbFrames } from "../../lib/data/video/video.ts";

/** Distance from the ground, in bytes over three channels, from which a pixel belongs to the shape. */
const FOREGROUND = 90;

/** Pixels of the smallest spot: a tenth of the world's smallest shape. */
const SMALLEST = 45;

/** Something found in a clip. */
export interface Seen<T> {
  readonly value: T;
  /** Of the shape's pixels for a colour, of the frames for a shape. */
  readonly share: number;
}

/** What was found; undefined where fewer than half of the frames show anything. */
export interface Sight {
  readonly colour: Seen<Colour>;
  readonly shape: Seen<Shape>;
  readonly direction: Direction;
}

interface Spot {
  readonly mask: readonly boolean[];
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
  const mask = Array.from({ length: width * height }, (_, i) => distance(data, start + 3 * i, GROUND) > FOREGROUND);
  const colours = new Map<Colour, number>();
  let [area, x, y] = [0, 0, 0];
  mask.forEach((inside, i) => {
    if (!inside) return;
    area++;
    x += i % width + 0.5;
    y += Math.floor(i / width) + 0.5;
    const colour = bestOf(named, (name) => -distance(data, start + 3 * i, COLOURS[name]));
    colours.set(colour, 1 + (colours.get(colour) ?? 0));
  });
  return area < SMALLEST ? undefined : { mask, area, centre: [x / area, y / area], colours };
}

/** Area and height of the centroid of every shape of radius 1, from a grid of points. */
const moments = new Map(
  Object.entries(SHAPES).map(([name, inside]) => {
    const step = 0.02;
    let [area, y] = [0, 0];
    for (let v = -1.5; v < 1.5; v += step) {
      for (let u = -1.5; u < 1.5; u += step) {
        if (!inside(u, v)) continue;
        area += step ** 2;
        y += v * step ** 2;
      }
    }
    return [name, { area, y: y / area }];
  }),
);

/** How much of a spot and of a shape's outline of the same area and centre both cover: intersection over union. */
function overlap({ mask, area, centre }: Spot, shape: Shape, width: number): number {
  const unit = moments.get(shape)!;
  const radius = Math.sqrt(area / unit.area);
  let [both, either] = [0, 0];
  mask.forEach((found, i) => {
    const u = (i % width + 0.5 - centre[0]) / radius;
    const v = (Math.floor(i / width) + 0.5 - centre[1]) / radius + unit.y;
    const expected = SHAPES[shape](u, v);
    if (found && expected) both++;
    if (found || expected) either++;
  });
  return both / either;
}

function mostFrequent<T>(counts: readonly (readonly [T, number])[]): Seen<T> {
  const sums = new Map<T, number>();
  for (const [value, count] of counts) sums.set(value, count + (sums.get(value) ?? 0));
  const [value, count] = bestOf([...sums], ([, count]) => count);
  return { value, share: count / [...sums.values()].reduce((sum, count) => sum + count, 0) };
}

/** Looks at a clip. */
export function look(video: RgbFrames): Sight | undefined {
  const spots = Array.from({ length: video.frames }, (_, frame) => spotOf(video, frame) ?? []).flat();
  if (spots.length < video.frames / 2) return undefined;
  const shapes = Object.keys(SHAPES) as Shape[];
  const shapeOf = (spot: Spot) => bestOf(shapes, (shape) => overlap(spot, shape, video.width));
  const [first, last] = [spots[0]!.centre, spots.at(-1)!.centre];
  const along = (way: Direction) =>
    DIRECTIONS[way][0] * (last[0] - first[0]) + DIRECTIONS[way][1] * (last[1] - first[1]);
  return {
    colour: mostFrequent(spots.flatMap(({ colours }) => [...colours])),
    shape: mostFrequent(spots.map((spot) => [shapeOf(spot), 1])),
    direction: bestOf(Object.keys(DIRECTIONS) as Direction[], along),
  };
}
