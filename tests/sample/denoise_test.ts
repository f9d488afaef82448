/** Latents after every step of every stored pipeline run, DDIM and DPM, with and without dynamic guidance. */
import assert from "node:assert/strict";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { guidanceScales } from "../../lib/sample/guidance.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { caseName } from "../reference.ts";
import { storedRuns } from "./golden_pipeline.ts";
import { replay } from "./replay.ts";
import { LimitedSession } from "../limited_session.ts";

for (const stored of storedRuns()) {
  Deno.test(`denoising ${stored.variant} equals the stored runs after every step`, async () => {
    const { device } = await testDevice();
    using session = new Session(device);
    using model = await loadTransformer(session, openModelFolder(stored.model));
    const modelBytes = session.allocatedBytes;
    for (const run of stored.runs) {
      const { latents, expected } = await replay(model, stored, run);
      expected.forEach((values, i) => {
        const error = relativeL2(latents[i]!, values);
        assert.ok(error <= 1e-5, `${caseName(run)} step ${i}: ${error}`);
      });
    }
    assert.equal(session.allocatedBytes, modelBytes, "a disposed denoiser leaves nothing but the weights");
  });
}

Deno.test("one run of batch 2 and two of batch 1 agree, and the default needs less memory", async () => {
  const stored = storedRuns()[0]!;
  const run = stored.runs.find(({ config }) => config.scheduler === "dpm")!;
  const { device } = await testDevice();
  const peaks: number[] = [];
  const results: Float32Array[] = [];
  for (const mode of ["sequential", "batched"] as const) {
    using session = new LimitedSession(device);
    using model = await loadTransformer(session, openModelFolder(stored.model));
    const { latents, expected } = await replay(model, stored, run, { mode });
    assert.ok(relativeL2(latents.at(-1)!, expected.at(-1)!) <= 1e-5);
    results.push(latents.at(-1)!);
    peaks.push(session.peakBytes);
  }
  assert.ok(relativeL2(results[0]!, results[1]!) <= 1e-5);
  assert.ok(peaks[0]! < peaks[1]!, `${peaks}`);
});

Deno.test("dynamic guidance has the scales of its formula", () => {
  const timesteps = spaceTimesteps(50, "trailing", 1000).timesteps;
  const scales = guidanceScales(timesteps, { guidance: 6, dynamic: true });
  const table = [[999, 2.29149], [979, 2.5435], [959, 6.97435], [499, 1.52127], [59, 1.0000005], [39, 1.000004], [
    19,
    1.1234,
  ]];
  for (const [t, scale] of table) assert.ok(Math.abs(scales[timesteps.indexOf(t!)]! - scale!) < 1e-5, `${t}`);
  assert.deepEqual(guidanceScales([999, 19], { guidance: 3, dynamic: false }), [3, 3]);
  assert.equal(guidanceScales([1], { guidance: 6, dynamic: true })[0], 1);
});
