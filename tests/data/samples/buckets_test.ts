/** Which bucket a clip goes to, against shares of pictures and numbers of frames worked out by hand. */
import assert from "node:assert/strict";
import { chooseShape, keptShare, shapeName, type ShapeOptions } from "../../../lib/data/samples/buckets.ts";
import type { Probe } from "../../../lib/data/video/probe.ts";

const shapeOf = (name: string) => {
  const [frames, height, width] = name.split("x").map(Number);
  return { frames: frames!, size: { width: width!, height: height! } };
};

/** A clip of so many frames at 8 frames per second. */
function clip(width: number, height: number, frames: number, pixelAspect = 1): Probe {
  const timestamps = Float64Array.from({ length: frames }, (_, i) => i / 8);
  return { width, height, frames, fps: 8, pixelAspect, timestamps } as Probe;
}

function options(...names: string[]): ShapeOptions {
  return { frames: 1, size: { width: 16, height: 16 }, fps: 8, buckets: names.map(shapeOf) };
}

const usual = ["49x480x720", "49x720x480", "25x480x720"];

Deno.test("the share that a crop keeps is that of the smaller shape in the larger", () => {
  // 16:9 in 3:2: height fits, 1.5 of 1.778 of the width remain. 9:16 in it: 0.5625 / 1.5.
  assert.equal(keptShare({ width: 1280, height: 720, pixelAspect: 1 }, { width: 720, height: 480 }), 1.5 / (16 / 9));
  assert.equal(keptShare({ width: 720, height: 1280, pixelAspect: 1 }, { width: 720, height: 480 }), 0.5625 / 1.5);
  assert.equal(keptShare({ width: 720, height: 480, pixelAspect: 2 }, { width: 720, height: 480 }), 0.5);
});

const cases: [why: string, clip: Probe, buckets: string[], bucket: number][] = [
  ["as wide and long enough", clip(1280, 720, 60), usual, 0],
  ["upright", clip(720, 1280, 60), usual, 1],
  ["exactly as long", clip(1280, 720, 49), usual, 0],
  ["one frame short of the longer", clip(1280, 720, 48), usual, 2],
  ["upright, but too short for the upright bucket: no frame is repeated", clip(720, 1280, 30), usual, 2],
  ["shorter than all: the shortest", clip(720, 1280, 9), usual, 2],
  ["shorter than all: the shortest of the best shape", clip(720, 1280, 3), ["9x480x720", "17x720x480", "9x720x480"], 2],
  ["pixels twice as wide", clip(360, 480, 60, 2), ["49x480x720", "49x720x480"], 0],
  ["the longest of the same shape", clip(720, 480, 60), ["25x480x720", "49x480x720", "9x480x720"], 1],
  ["nearly the same shape: length decides", clip(1360, 768, 60), ["25x768x1360", "49x480x848"], 1],
  ["the largest that enlarges nothing", clip(720, 480, 60), ["49x320x480", "49x480x720", "49x640x960"], 1],
  ["the largest where nothing is enlarged", clip(1920, 1280, 60), ["49x320x480", "49x640x960", "49x480x720"], 1],
  ["a picture", clip(720, 480, 1), ["49x480x720", "1x720x480", "1x480x720"], 2],
  ["the first of equals", clip(480, 480, 60), ["49x480x720", "49x720x480"], 0],
];

for (const [why, probe, buckets, bucket] of cases) {
  Deno.test(`a clip goes to ${buckets[bucket]}: ${why}`, () => {
    const shape = chooseShape(probe, options(...buckets));
    assert.deepEqual([shape.bucket, shapeName(shape)], [bucket, buckets[bucket]]);
  });
}

Deno.test("frames count at the model's rate, or one by one with the stride rule", () => {
  const slow = options("9x480x720", "17x480x720");
  // 32 frames at 16 per second are 16 at 8.
  const timestamps = Float64Array.from({ length: 32 }, (_, i) => i / 16);
  const fast = { ...clip(720, 480, 32), fps: 16, timestamps };
  assert.equal(chooseShape(fast, slow).bucket, 0);
  assert.equal(chooseShape(fast, { ...slow, frameRule: "stride" }).bucket, 1);
});

Deno.test("without buckets every clip has the one shape", () => {
  const shape = chooseShape(clip(720, 1280, 3), { frames: 17, size: { width: 48, height: 32 }, fps: 8 });
  assert.deepEqual([shape.bucket, shapeName(shape)], [0, "17x32x48"]);
});
