/** Which gradients are read from the GPU in one wait. */
import assert from "node:assert/strict";
import { Tensor } from "../../lib/plan/tensor.ts";
import { readGroups } from "../../lib/step/exchange.ts";

Deno.test("tensors are read in order, in groups of 128 MiB, a larger one alone", () => {
  const sizes = (mebibytes: readonly number[]) =>
    readGroups(mebibytes.map((size, i) => new Tensor(`${i}`, [size * 2 ** 18], "f32")))
      .map((group) => group.map(({ bytes }) => bytes / 2 ** 20));
  assert.deepEqual(sizes([]), []);
  assert.deepEqual(sizes([64, 64, 1]), [[64, 64], [1]]);
  assert.deepEqual(sizes([100, 28, 28, 100]), [[100, 28], [28, 100]]);
  assert.deepEqual(sizes([1, 200, 1, 127]), [[1], [200], [1, 127]]);
});
