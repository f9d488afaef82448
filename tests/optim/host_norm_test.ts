/** The control values of an update: the host, where it has the gradients, writes what the GPU computes. */
import assert from "node:assert/strict";
import { clipControl } from "../../kernels/optimizer/adam.ts";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { Session } from "../../lib/gpu/session.ts";
import { declareOptimizer, uploadControl } from "../../lib/optim/update.ts";
import { runLaunch, testDevice } from "../kernels/run.ts";
import { RECIPE } from "./fixture.ts";

/** [sum of squares of the scaled gradient, limit of the norm, loss scale]. */
const CASES = [[4 * 64 ** 2, 1, 64], [4 * 64 ** 2, 0, 64], [0.25, 1, 1], [0, 1, 65536], [Infinity, 1, 2], [NaN, 0, 1]];

Deno.test("norm, factor on gradients and skip flag are those of the formulas, on the host and on the GPU", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  for (const [squares, max_grad_norm, lossScale] of CASES as [number, number, number][]) {
    const config = { ...RECIPE, max_grad_norm };
    const tensors = declareOptimizer(config, []);
    uploadControl(session, tensors, config, { squares, lossScale });
    const host = await session.readF32(tensors.control);
    const launch = clipControl(plainTarget(0), { slots: 1, maxNorm: max_grad_norm });
    const loss = Float32Array.of(0.5, 0, 0, 0), state = Float32Array.of(0, 0, 0, 1 / lossScale);
    const gpu = (await runLaunch(launch, [Float32Array.of(squares, 0, 0, 0), loss, state, 4]))[3]!;
    for (const [norm, factor, skip] of [host, gpu]) {
      assert.equal(skip, Number.isFinite(squares) ? 0 : 1);
      if (skip === 1) continue;
      const expected = Math.sqrt(squares) / lossScale;
      assert.ok(Math.abs(norm! - expected) <= 1e-6 * expected);
      const clip = max_grad_norm > 0 ? Math.min(1, max_grad_norm / (expected + 1e-6)) : 1;
      assert.ok(Math.abs(factor! * lossScale / clip - 1) < 1e-6);
    }
    session.free(tensors.control);
  }
});
