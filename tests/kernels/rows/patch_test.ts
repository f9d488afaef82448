import assert from "node:assert/strict";
import { patchify, type PatchShape, unpatchify } from "../../../kernels/rows/patch.ts";
import { joinRows, splitRows } from "../../../kernels/rows/join_rows.ts";
import { numbers, runLaunch, stored } from "../run.ts";

/** Rows of patches straight from the definition; channels from `channels` on come from `condition`. */
function reference(x: Float32Array, condition: Float32Array, shape: PatchShape): Float32Array {
  const { batch, frames, channels, conditionChannels, height, width, framesPerPatch: span } = shape;
  const all = channels + conditionChannels;
  const rows: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < frames / span; t++) {
      for (let i = 0; i < height / 2; i++) {
        for (let j = 0; j < width / 2; j++) {
          for (let c = 0; c < all; c++) {
            for (let r = 0; r < span; r++) {
              for (let pixel = 0; pixel < 4; pixel++) {
                const frame = b * frames + t * span + r;
                const at = (2 * i + (pixel >> 1)) * width + 2 * j + pixel % 2;
                rows.push(
                  c < channels
                    ? x[(frame * channels + c) * height * width + at]!
                    : condition[(frame * conditionChannels + c - channels) * height * width + at]!,
                );
              }
            }
          }
        }
      }
    }
  }
  return Float32Array.from(rows);
}

for (const span of [1, 2]) {
  Deno.test(`patches of ${span} frame(s) have the order of the checkpoints and go back to the same latents`, async () => {
    for (const conditionChannels of [0, 3]) {
      for (const dtype of ["f32", "bf16", "f16"] as const) {
        const shape = {
          batch: 2,
          frames: 2 * span,
          channels: 6,
          conditionChannels,
          height: 6,
          width: 10,
          framesPerPatch: span,
        };
        const pixels = 2 * 2 * span * 60;
        const x = stored(numbers(pixels * 6, 1), dtype);
        const condition = stored(numbers(pixels * conditionChannels, 2), dtype);
        const launch = patchify({ y: dtype, condition: conditionChannels > 0 }, shape);
        const extra = conditionChannels > 0 ? [condition] : [];
        const [, rows] = await runLaunch(launch, [x, x.length + condition.length, ...extra]);
        assert.deepEqual(rows, reference(x, condition, shape));
        if (conditionChannels === 0) {
          const [, back] = await runLaunch(unpatchify({ rows: dtype }, shape), [rows!, x.length]);
          assert.deepEqual(back, x);
        }
      }
    }
  });
}

Deno.test("latents that patches do not tile are refused", () => {
  const shape = {
    batch: 1,
    frames: 3,
    channels: 16,
    conditionChannels: 0,
    height: 6,
    width: 10,
    framesPerPatch: 2,
  };
  assert.throws(() => patchify({ y: "f32", condition: false }, shape), RangeError);
  const odd = { ...shape, frames: 2, height: 7 };
  assert.throws(() => unpatchify({ rows: "f32" }, odd), RangeError);
});

Deno.test("text and video rows join, text first, and split again", async () => {
  const shape = { batch: 3, textRows: 2, videoRows: 5, width: 8 };
  const text = stored(numbers(3 * 2 * 8, 1), "bf16");
  const video = stored(numbers(3 * 5 * 8, 2), "bf16");
  const expected = Float32Array.from({ length: 3 * 7 * 8 }, (_, i) => {
    const [b, k] = [Math.floor(i / 56), i % 56];
    return k < 16 ? text[b * 16 + k]! : video[b * 40 + k - 16]!;
  });
  for (const dtype of ["f32", "bf16"] as const) {
    const join = joinRows({ text: dtype, video: "f32", y: dtype }, shape);
    const [, , joint] = await runLaunch(join, [text, video, expected.length]);
    assert.deepEqual(joint, expected);
    const split = splitRows({ x: dtype, text: "f32", video: dtype }, shape);
    const [, textBack, videoBack] = await runLaunch(split, [joint!, text.length, video.length]);
    assert.deepEqual(textBack, text);
    assert.deepEqual(videoBack, video);
    const drop = splitRows({ x: dtype, text: "drop", video: dtype }, shape);
    assert.deepEqual((await runLaunch(drop, [joint!, video.length]))[1], video);
    const zero = joinRows({ text: "zero", video: "f32", y: dtype }, shape);
    const before = new Float32Array(expected.length).fill(9);
    const [, zeroed] = await runLaunch(zero, [video, before]);
    assert.deepEqual(zeroed, expected.map((v, i) => (i % 56 < 16 ? 0 : v)));
  }
});
