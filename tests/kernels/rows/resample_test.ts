import assert from "node:assert/strict";
import { averageFramePairs, copyFrames } from "../../../kernels/rows/resample.ts";
import { numbers, rounded, runLaunch, stored } from "../run.ts";

/** Means of pairs of frames, behind a first frame that is kept when the count is odd. */
function pairsReference(x: Float32Array, frames: number, frameSize: number): number[] {
  const keepFirst = frames % 2;
  return Array.from({ length: Math.ceil(frames / 2) * frameSize }, (_, i) => {
    const k = Math.floor(i / frameSize);
    const inside = i % frameSize;
    const second = keepFirst === 1 ? 2 * k : 2 * k + 1;
    const first = Math.max(0, second - 1);
    return (x[first * frameSize + inside]! + x[second * frameSize + inside]!) / 2;
  });
}

Deno.test("pairs of frames are averaged, and the first of an odd number is kept", async () => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const [frames, frameSize] of [[9, 20], [8, 12], [1, 4], [3, 260]] as const) {
      const x = stored(numbers(frames * frameSize), dtype);
      const launch = averageFramePairs({ dtype }, {
        frames: Math.ceil(frames / 2),
        frameSize,
        keepFirst: frames % 2 === 1,
      });
      const [, y] = await runLaunch(launch, [x, Math.ceil(frames / 2) * frameSize]);
      // A mean of two stored numbers is exact in f32 up to one rounding, so the stored results are equal.
      assert.deepEqual([...y!], pairsReference(x, frames, frameSize).map((v) => rounded(Math.fround(v), dtype)));
    }
  }
});

Deno.test("frames are copied from and to an offset", async () => {
  const x = numbers(24);
  const [, once] = await runLaunch(copyFrames({ dtype: "f32" }, { size: 8, from: 12, to: 4 }), [x, 16]);
  assert.deepEqual([...once!], [0, 0, 0, 0, ...x.slice(12, 20), 0, 0, 0, 0]);
  const half = stored(x, "bf16");
  const [, packed] = await runLaunch(copyFrames({ dtype: "bf16" }, { size: 8, from: 8, to: 0 }), [half, 8]);
  assert.deepEqual([...packed!], [...half.slice(8, 16)]);
});
