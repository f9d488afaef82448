/** The example model knows its toy world: its autoencoder shows what was encoded. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { COLOURS, drawScene, FRAMES, render, type Shape, SHAPES, SIZE } from "../../examples/make/world.ts";
import { RandomStream } from "../../lib/data/random/random.ts";
import { normalise } from "../../lib/data/video/normalise.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { engine } from "../engine.ts";
import { examples } from "../train/runs.ts";

const model = join(examples, "toy");

Deno.test("the autoencoder gives clips back that it has never seen", async () => {
  using device = await openDevice({ engine });
  using session = new Session(device);
  using vae = openVae(session, model);
  const colours = Object.values(COLOURS);
  for (const [sample, shape] of (Object.keys(SHAPES) as Shape[]).entries()) {
    const random = new RandomStream({ seed: 1234, purpose: "augmentation", step: 0, sample });
    const pixels = normalise(render(drawScene(random, colours[sample]!, shape, "up")));
    const { mean } = await vae.encode({ data: pixels, shape: [3, FRAMES, SIZE, SIZE] });
    const { data } = await vae.decode(mean);
    const squares = data.reduce((sum, value, i) => sum + (Math.min(1, Math.max(-1, value)) - pixels[i]!) ** 2, 0);
    const decibels = 10 * Math.log10(4 * data.length / squares);
    assert.ok(decibels > 20, `${shape}: ${decibels} dB`);
  }
});
