/**
 * The run without arguments teaches its model a colour that it does not know and leaves it those that it knows: seen in
 * the videos that the run samples, before against after. With COGTUNE_FULL as it is and over five seeds, else a third
 * of it with one.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FPS, FRAMES } from "../../examples/make/world.ts";
import { loadConfig } from "../../lib/config/config.ts";
import { readVideo } from "../../lib/sample/pictures.ts";
import { engine } from "../engine.ts";
import { collect } from "../train/runs.ts";
import { look } from "./look.ts";

const isFull = Deno.env.has("COGTUNE_FULL");
const seeds = isFull ? [42, 1, 2, 3, 4] : [42];

for (const seed of seeds) {
  Deno.test(`a run on clips of a purple star teaches purple, seed ${seed}`, async () => {
    const folder = Deno.makeTempDirSync();
    try {
      const { config } = await loadConfig({
        preset: "default",
        overrides: {
          ...(isFull ? {} : { train_steps: 80 }),
          ...{ seed, engine, output_dir: join(folder, "run"), cache_dir: join(folder, "cache") },
        },
      });
      const events = await collect(config);
      const samples = events.flatMap((event) => event.type === "sample" ? event : []);
      const prompts = readFileSync(join(config.validation_dir!, config.validation_prompts!), "utf8").trim().split("\n");
      assert.ok(prompts.length > 2);
      for (const prompt of prompts) {
        const sightAt = async (at: number) => {
          const { path } = samples.find((sample) => sample.prompt === prompt && sample.step === at)!;
          return look((await readVideo(path, { frames: FRAMES, fps: FPS })).video)!;
        };
        const [before, after] = [await sightAt(0), await sightAt(config.train_steps!)];
        const told = `${prompt}: ${JSON.stringify({ before, after })}`;
        const colour = prompt.split(" ")[1];
        assert.equal(after.colour, colour, told);
        assert.ok(after.share > 0.6, told);
        assert.ok(prompt.endsWith(after.direction), told);
        if (colour === "purple") assert.notEqual(before.colour, colour, told);
        else assert.equal(before.colour, colour, told);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
