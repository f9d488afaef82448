/** Cache entries that are sound in themselves and not what the model reads: of another shape than config and model make. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { SampleCache } from "../../../lib/data/cache/cache.ts";
import type { CacheRequest } from "../../../lib/data/cache/key.ts";
import { UserError } from "../../../lib/errors.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import { train } from "../../../lib/train/trainer.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** Stores zeros of a shape under the name of an entry, with hashes that fit them. */
function plant(cache: SampleCache, { kind, name, fields }: CacheRequest, shape: readonly number[]): Promise<void> {
  const data = new Float32Array(shape.reduce((product, length) => product * length, 1));
  return cache.write({ kind, name, fields }, { shape, data });
}

Deno.test("entries of another shape are built again before training, and the run has the bits of one without them", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2 });
    await collect({ ...config, output_dir: join(folder, "whole") });
    const { cache, samples: [sample] } = await prepareData(config, openModelFolder(config.model_path!));
    // 9 frames of 32x48 are 3 latent frames of 4x6, mean and log-variance of 16 channels each; 226 tokens of 32 numbers.
    await plant(cache, sample!.latent, [32, 3, 6, 4]);
    await plant(cache, sample!.prompt, [113, 64]);
    const warnings = (await collect(config)).flatMap((event) => event.type === "warning" ? [event.message] : []);
    const expected = [
      /has shape \[113, 64\], expected \[226, 32\]/,
      /has shape \[32, 3, 6, 4\], expected \[32, 3, 4, 6\]/,
    ];
    for (const says of expected) {
      assert.ok(warnings.some((message) => /built again/.test(message) && says.test(message)), `${warnings}`);
    }
    const [one, other] = ["whole", "run"].map((name) =>
      readFileSync(join(folder, name, "checkpoint-2/state.safetensors"))
    );
    assert.deepEqual(one, other);
  }));

Deno.test("an entry that is replaced by one of another shape while training ends the run with the name of the clip", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 2 });
    const { cache, samples } = await prepareData(config, openModelFolder(config.model_path!));
    await assert.rejects(
      async () => {
        for await (const event of train(config)) {
          if (event.type !== "saved") continue;
          for (const { latent } of samples) await plant(cache, latent, [32, 3, 4, 7]);
        }
      },
      (error) =>
        error instanceof UserError && /The cached latent of "videos\/\w+\.mp4" .* is damaged/.test(error.summary),
    );
  }));
