/** Latents after every step of every stored pipeline run, all five variants, DDIM and DPM, with and without dynamic guidance. */
import assert from "node:assert/strict";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { guidanceScales } from "../../lib/sample/guidance.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { referenceTest } from "../reference.ts";
import { VARIANTS } from "./golden_pipeline.ts";
import { replay } from "./replay.ts";
import { LimitedSession } from "../limited_session.ts";

for (const variant of VARIANTS) {
  referenceTest(`denoising ${variant} equals the stored runs after every step`, async (folder) => {
    const { device } = await testDevice();
    using session = new Session(device);
    const path = `${folder}/pipelines/tiny-${variant}`;
    using model = await loadTransformer(session, openModelFolder(path));
    const modelBytes = session.allocatedBytes;
    for (const kind of ["ddim", "dpm", "ddim.dynamic", "dpm.dynamic"]) {
      const { latents, expected } = await replay(model, folder, variant, kind);
      expected.forEach((values, i) => {
        const error = relativeL2(latents[i]!, values);
        assert.ok(error <= 1e-5, `${kind} step ${i}: ${error}`);
      });
    }
    assert.equal(session.allocatedBytes, modelBytes, "a disposed denoiser leaves nothing but the weights");
  });
}

referenceTest("one run of batch 2 and two of batch 1 agree, and the default needs less memory", async (folder) => {
  const { device } = await testDevice();
  const peaks: number[] = [];
  const results: Float32Array[] = [];
  for (const mode of ["sequential", "batched"] as const) {
    using session = new LimitedSession(device);
    const path = `${folder}/pipelines/tiny-1.5-5b-i2v`;
    using model = await loadTransformer(session, openModelFolder(path));
    const { latents, expected } = await replay(model, folder, "1.5-5b-i2v", "dpm", { mode });
    assert.ok(relativeL2(latents.at(-1)!, expected.at(-1)!) <= 1e-5);
    results.push(latents.at(-1)!);
    peaks.push(session.peakBytes);
  }
  assert.ok(relativeL2(results[0]!, results[1]!) <= 1e-5);
  assert.ok(peaks[0]! < peaks[1]!, `${peaks}`);
});

Deno.test("dynamic guidance has the scales of the specification", () => {
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
