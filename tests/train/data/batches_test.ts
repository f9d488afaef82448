/** What a micro-batch draws: from the posterior by its formula, and a timestep and noise of its own for every sample. */
import assert from "node:assert/strict";
import type { SampleCache } from "../../../lib/data/cache/cache.ts";
import { RELEASED } from "../../../lib/models/transformer/config.ts";
import { RELEASED_VAE } from "../../../lib/models/vae/config.ts";
import { type BatchSource, makeBatch, sampleLatent } from "../../../lib/train/data/batches.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import type { TrainingSample } from "../../../lib/train/data/prepare_data.ts";

Deno.test("sampleLatent() is (mean + exp(logvar / 2) n) s, frames first, with the first frame repeated in front", () => {
  // One channel, two frames of 1 x 2: means 1 2 | 3 4, log-variances 0 except ln 4 at the last value.
  const data = Float32Array.of(1, 2, 3, 4, 0, 0, 0, Math.log(4));
  const latent = sampleLatent({ shape: [2, 2, 1, 2], data }, Float32Array.of(1, 0, 0, 1), 0.5, 1);
  assert.deepEqual([...latent], [1, 1, 1, 1, 1.5, 3]);
});

Deno.test("makeBatch() draws per sample, repeats itself exactly, and fills a partial batch with weight 0", () => {
  const posterior = { shape: [32, 3, 2, 2], data: new Float32Array(32 * 3 * 4) };
  const source: BatchSource = {
    config: parseConfig("model: tiny-2b\nbatch_size: 2"),
    model: RELEASED["tiny-2b"]!,
    vae: RELEASED_VAE,
    cache: { read: () => posterior } as unknown as SampleCache,
    samples: [{ variants: [] }, { variants: [] }] as unknown as TrainingSample[],
    alphas: new Float64Array(1000).fill(0.5),
  };
  const items = (globalIndex: number) => [{ index: 0, globalIndex }, { index: 1, globalIndex: globalIndex + 1 }];
  const drawn = Array.from({ length: 200 }, (_, i) => makeBatch(source, items(2 * i)).timesteps).flat();
  assert.ok(new Set(drawn).size > 300, "400 draws of 1000 timesteps hit about 330 of them");
  assert.ok(Math.abs(drawn.reduce((sum, t) => sum + t, 0) / 400 - 499.5) < 5 * 288.7 / 20);
  const batch = makeBatch(source, items(0));
  assert.deepEqual(batch, makeBatch(source, items(0)));
  const half = batch.noise.length / 2;
  assert.notDeepEqual(batch.noise.slice(0, half), batch.noise.slice(half));
  const partial = makeBatch(source, items(0).slice(0, 1));
  assert.deepEqual(partial.weights, [1, 0]);
});
