import assert from "node:assert/strict";
import { fitGeometry, geometryFilter } from "../../../lib/data/video/geometry.ts";

const target = { width: 720, height: 480 };

Deno.test("fitGeometry() crops by default: covers the target and cuts evenly", () => {
  // 1280x720 to height 480: 853.33 wide, so 133 columns go.
  assert.deepEqual(fitGeometry({ width: 1280, height: 720 }, target), {
    mode: "crop",
    scaled: { width: 853, height: 480 },
    target,
    x: 66,
    y: 0,
  });
  assert.deepEqual(fitGeometry({ width: 1080, height: 1920 }, target), {
    mode: "crop",
    scaled: { width: 720, height: 1280 },
    target,
    x: 0,
    y: 400,
  });
});

Deno.test("fitGeometry() letterboxes inside the target", () => {
  assert.deepEqual(fitGeometry({ width: 1280, height: 720 }, target, "letterbox"), {
    mode: "letterbox",
    scaled: { width: 720, height: 405 },
    target,
    x: 0,
    y: 37,
  });
});

Deno.test("fitGeometry() stretches both axes", () => {
  assert.deepEqual(fitGeometry({ width: 100, height: 900 }, target, "stretch"), {
    mode: "stretch",
    scaled: target,
    target,
    x: 0,
    y: 0,
  });
});

Deno.test("fitGeometry() counts a wide pixel by its width: PAL 720x576 with 64:45 pixels is 16:9", () => {
  const { scaled } = fitGeometry({ width: 720, height: 576, pixelAspect: 64 / 45 }, target, "letterbox");
  assert.deepEqual(scaled, { width: 720, height: 405 });
});

Deno.test("fitGeometry() always covers or fits, for every small size", () => {
  for (let width = 1; width <= 40; width++) {
    for (let height = 1; height <= 40; height++) {
      const small = { width: 16, height: 9 };
      const crop = fitGeometry({ width, height }, small), box = fitGeometry({ width, height }, small, "letterbox");
      assert.ok(crop.scaled.width >= 16 && crop.scaled.height >= 9 && crop.x + 16 <= crop.scaled.width);
      assert.ok(crop.y + 9 <= crop.scaled.height);
      assert.ok(box.scaled.width <= 16 && box.scaled.height <= 9 && box.scaled.width >= 1 && box.scaled.height >= 1);
      assert.ok(box.x + box.scaled.width <= 16 && box.y + box.scaled.height <= 9);
    }
  }
});

Deno.test("fitGeometry() refuses a size that is not a positive integer", () => {
  for (const bad of [0, -1, 1.5, NaN]) {
    assert.throws(() => fitGeometry({ width: bad, height: 9 }, target), RangeError);
    assert.throws(() => fitGeometry(target, { width: 9, height: bad }), RangeError);
  }
});

Deno.test("geometryFilter() is made of integers and known words only", () => {
  for (const mode of ["crop", "letterbox", "stretch"] as const) {
    assert.match(geometryFilter(fitGeometry({ width: 641, height: 359 }, target, mode)), /^[a-z0-9_=+:,]+$/);
  }
});
