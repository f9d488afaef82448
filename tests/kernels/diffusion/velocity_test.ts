import assert from "node:assert/strict";
import {
  finishVelocityLoss,
  velocityLoss,
  velocityLossSlots,
  velocityTarget,
} from "../../../kernels/diffusion/velocity.ts";
import { numbers, relativeL2, runLaunch, stored } from "../run.ts";
import { targets } from "../targets.ts";

/** Three samples of a size that leaves the last workgroup of each partly idle. */
const shape = { batch: 3, elements: 1500 };
const SIZE = 4500;

/** Loss weights: two samples that count differently and one that only fills the batch. */
const WEIGHTS = [0.5, 0.2, 0];

function coefficients(): Float32Array<ArrayBuffer> {
  return Float32Array.from([0.9, 0.25, 0.017].flatMap((a, b) => [Math.sqrt(a), Math.sqrt(1 - a), 64 + b, WEIGHTS[b]!]));
}

Deno.test("noised latents and velocity follow their formulas per sample", async () => {
  const z = numbers(SIZE, 1);
  const noise = numbers(SIZE, 2);
  const k = coefficients();
  const [, , , xt, velocity] = await runLaunch(velocityTarget(shape), [z, noise, k, SIZE, SIZE]);
  const at = (i: number, c: number) => k[Math.floor(i / 1500) * 4 + c]!;
  assert.ok(relativeL2(xt!, Float64Array.from(z, (v, i) => at(i, 0) * v + at(i, 1) * noise[i]!)) < 1e-7);
  assert.ok(relativeL2(velocity!, Float64Array.from(z, (v, i) => at(i, 0) * noise[i]! - at(i, 1) * v)) < 1e-7);
});

Deno.test("velocity loss and its gradient match float64", async () => {
  for (const target of await targets()) {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const v = stored(numbers(SIZE, 3), dtype);
      const velocity = numbers(SIZE, 4);
      const k = coefficients();
      const launch = velocityLoss(target, { v: dtype, dv: "f32" }, shape);
      const slots = velocityLossSlots(shape);
      const [, , , dv, partials] = await runLaunch(launch, [v, velocity, k, SIZE, slots * 4]);
      const [, loss] = await runLaunch(finishVelocityLoss(target, shape), [partials!, 4]);
      let expected = 0;
      v.forEach((value, i) => expected += WEIGHTS[Math.floor(i / 1500)]! * (value - velocity[i]!) ** 2 / 1500);
      assert.ok(Math.abs(loss![0]! - expected) < 1e-6 * expected);
      const gradient = Float64Array.from(v, (value, i) => {
        const scale = k[Math.floor(i / 1500) * 4 + 2]!;
        return 2 * (value - velocity[i]!) / 1500 * scale;
      });
      assert.ok(relativeL2(dv!, gradient) < 5e-7);
    }
  }
});
