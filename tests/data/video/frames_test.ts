import assert from "node:assert/strict";
import { selectFrames } from "../../../lib/data/video/frames.ts";
import { referencePath } from "../../reference.ts";

const pick = (frames: number, fps: number, wanted: number, modelFps: number) =>
  selectFrames({ frames, fps }, { frames: wanted, fps: modelFps });

Deno.test("selectFrames() with rule stride equals the original trainer in every row", async () => {
  const { cases } = JSON.parse(await Deno.readTextFile(referencePath("data/frame-indices.json"))) as {
    cases: [number, number, number[]][];
  };
  assert.ok(cases.length >= 200);
  for (const [n, wanted, indices] of cases) {
    const choice = selectFrames({ frames: n, fps: 30 }, { frames: wanted, fps: 8, rule: "stride" });
    assert.deepEqual(choice.indices, indices, `${n} frames, ${wanted} wanted`);
    assert.equal(choice.padded, Math.max(0, wanted - n));
  }
});

Deno.test("selectFrames() keeps the speed of motion: equal rates take every frame, 24 to 8 fps every third", () => {
  assert.deepEqual(pick(60, 8, 9, 8).indices, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(pick(60, 24, 9, 8).indices, [0, 3, 6, 9, 12, 15, 18, 21, 24]);
  assert.deepEqual(pick(200, 24, 9, 8).indices, [0, 3, 6, 9, 12, 15, 18, 21, 24]);
  assert.equal(pick(60, 24, 9, 8).warning, undefined);
});

Deno.test("selectFrames() takes the nearest frame for rates that do not divide", () => {
  // k * 30 / 8 = 0, 3.75, 7.5, 11.25, 15; 7.5 is a tie and goes to the earlier frame.
  assert.deepEqual(pick(60, 30, 5, 8).indices, [0, 4, 7, 11, 15]);
  // 30000/1001 and 24000/1001 fps stay within half a frame of their nominal rates.
  assert.deepEqual(pick(60, 24000 / 1001, 9, 8).indices, [0, 3, 6, 9, 12, 15, 18, 21, 24]);
});

Deno.test("selectFrames() repeats the last frame of a clip that is too short and says so", () => {
  const choice = pick(6, 8, 9, 8);
  assert.deepEqual(choice.indices, [0, 1, 2, 3, 4, 5, 5, 5, 5]);
  assert.equal(choice.padded, 3);
  assert.match(choice.warning!, /lasts 0\.75 s, 9 frames at 8 fps need 1\.13 s: the last frame is repeated 3 times/);
  assert.equal(pick(9, 8, 9, 8).padded, 0);
  assert.equal(pick(1, 25, 9, 8).padded, 8);
});

Deno.test("selectFrames() reports a clip slower than the model", () => {
  const choice = pick(60, 4, 5, 8);
  assert.deepEqual(choice.indices, [0, 0, 1, 1, 2]);
  assert.equal(choice.padded, 0);
  assert.match(choice.warning!, /fewer than 8 frames per second: only 3 of the 5/);
});

Deno.test("selectFrames() follows the timestamps of a variable frame rate", () => {
  // Ten frames in the first 0.1 s, then one every 0.125 s.
  const timestamps = Float64Array.from({ length: 20 }, (_, i) => i < 10 ? i * 0.01 : 0.125 * (i - 9));
  const { indices } = selectFrames({ frames: 20, fps: 14, timestamps }, { frames: 5, fps: 8 });
  assert.deepEqual(indices, [0, 10, 11, 12, 13]);
});

Deno.test("selectFrames() refuses counts and rates that are not positive", () => {
  assert.throws(() => pick(0, 8, 9, 8), RangeError);
  assert.throws(() => pick(9, 8, 2.5, 8), RangeError);
  assert.throws(() => pick(9, 8, 9, 0), RangeError);
});
