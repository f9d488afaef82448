/** The example model knows its toy world: its autoencoder shows what was encoded, its transformer makes what a prompt asks for. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { COLOURS, drawScene, FRAMES, render, type Shape, SHAPES, SIZE } from "../../examples/make/world.ts";
import { RandomStream } from "../../lib/data/random/random.ts";
import { normalise } from "../../lib/data/video/normalise.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { sampleOn } from "../../lib/sample/sample.ts";
import { defaultSettings } from "../../lib/sample/settings.ts";
import { engine } from "../engine.ts";
import { examples } from "../train/runs.ts";
import { look } from "./look.ts";

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

Deno.test("prompts decide colour and direction", async () => {
  const prompts = [
    "a red circle moves to the right",
    "a green square moves to the left",
    "a blue triangle moves up",
    "a yellow circle moves down",
  ];
  const requests = prompts.map((prompt, seed) => ({ prompt, seed }));
  using device = await openDevice({ engine });
  using session = new Session(device);
  const folder = openModelFolder(model);
  const settings = { ...defaultSettings(folder.transformer), steps: 12, guidance: 3, sampler: "ddim" } as const;
  for await (const event of sampleOn(session, folder, requests, { settings })) {
    if (event.type !== "video") continue;
    const seen = look(event.video);
    const { prompt } = requests[event.index]!;
    const told = `${prompt}: ${JSON.stringify(seen)}`;
    assert.equal(seen?.colour, prompt.split(" ")[1], told);
    assert.ok(prompt.endsWith(seen!.direction), told);
  }
});
