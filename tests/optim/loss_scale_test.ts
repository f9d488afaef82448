/** The factor on the loss of fp16, by the rules of PyTorch's gradient scaler. */
import assert from "node:assert/strict";
import { LossScale } from "../../lib/optim/loss_scale.ts";

/** Takes note of so many steps that were made. */
function good(scale: LossScale, steps: number): void {
  for (let i = 0; i < steps; i++) scale.update(false);
}

Deno.test("the scale begins at 65536, halves with every overflow and doubles after 2000 good steps in a row", () => {
  const scale = new LossScale(true, undefined);
  assert.equal(scale.value, 65536);
  scale.update(true);
  assert.equal(scale.value, 32768);
  good(scale, 1999);
  assert.equal(scale.value, 32768);
  good(scale, 1);
  assert.equal(scale.value, 65536);
  good(scale, 1999);
  scale.update(true);
  good(scale, 1999);
  assert.equal(scale.value, 32768, "an overflow begins the count anew");
});

Deno.test("the scale ends at 1, where an overflow is no longer its fault", () => {
  const scale = new LossScale(true, { value: 2, goodSteps: 7 });
  assert.equal(scale.canShrink, true);
  scale.update(true);
  scale.update(true);
  assert.deepEqual([scale.value, scale.canShrink], [1, false]);
});

Deno.test("a scale goes on where it was saved, and stays 1 where there is none", () => {
  const scale = new LossScale(true, { value: 1024, goodSteps: 1998 });
  good(scale, 1);
  assert.deepEqual([scale.value, scale.goodSteps], [1024, 1999]);
  good(scale, 1);
  assert.deepEqual([scale.value, scale.goodSteps], [2048, 0]);
  const none = new LossScale(false, { value: 1024, goodSteps: 1999 });
  none.update(true);
  good(none, 2001);
  assert.deepEqual([none.value, none.canShrink], [1, false]);
});
