/** Every layout of dataset that is read is trained for two steps as it is. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { clipsFolder, referencePath } from "../../reference.ts";
import { layOut, LAYOUTS } from "../../data/dataset/layouts.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** Real clips and pictures for the letters of the layouts. */
const CONTENT: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = Object.fromEntries(
  await Promise.all(
    Object.entries({ a: "videos/ball.mp4", b: "videos/cells.mp4", p: "images/ball.png", q: "images/cells.png" })
      .map(async ([letter, name]) => [letter, await Deno.readFile(join(clipsFolder, name))]),
  ),
);

Deno.test("every layout trains for two steps", () =>
  inScratch(async (scratch) => {
    for (const layout of LAYOUTS) {
      const { of, open = "", options = {}, samples } = layout;
      const folder = join(scratch, "dataset");
      await layOut(layout, folder, (letter) => CONTENT[letter] ?? letter);
      // Datasets with pictures condition on them.
      const images = samples.some(([, , image]) => image !== undefined);
      const events = await collect(configOf(scratch, {
        data_root: join(folder, open),
        output_dir: join(scratch, "out"),
        // Clips and many prompts are the same in all of them.
        cache_dir: join(scratch, "cache"),
        train_steps: 2,
        train_resolution: `${options.frames ?? 9}x32x48`,
        ...(options.idToken === undefined ? {} : { id_token: options.idToken }),
        ...(options.prompt === undefined ? {} : { prompt: options.prompt }),
        ...(options.allowOutside === undefined ? {} : { allow_outside: options.allowOutside }),
        ...(images ? { model_path: referencePath("pipelines/small-1.5-5b-i2v"), model_name: "cogvideox1.5-i2v" } : {}),
      }));
      const started = events.find((event) => event.type === "started");
      assert.equal(started?.clips, samples.length, of);
      const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
      assert.equal(losses.length, 2, of);
      assert.ok(losses.every((loss) => loss > 0 && loss < 10), `${of}: ${losses}`);
      for (const name of ["dataset", "out"]) rmSync(join(scratch, name), { recursive: true });
    }
  }));
