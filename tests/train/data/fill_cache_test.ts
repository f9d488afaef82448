/** How a run fills its cache, and what it leaves there. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { type Purpose, RandomStream } from "../../../lib/data/random/random.ts";
import { Decoder } from "../../../lib/data/samples/decoder.ts";
import { normalise } from "../../../lib/data/video/normalise.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { openVae } from "../../../lib/models/vae/vae.ts";
import { fillDataCache } from "../../../lib/train/data/fill_cache.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { configOf, inScratch } from "../runs.ts";

async function fill(config: TrainConfig): Promise<TrainEvent[]> {
  const { device } = await testDevice();
  const model = openModelFolder(config.model_path!);
  using data = await prepareData(config, model);
  return await Array.fromAsync(fillDataCache(device, config, model, data));
}

Deno.test("a run counts prompts, clips and images apart, and removes what it does not use above cache_limit", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { model: "tiny-5b-i2v", model_name: "cogvideox-i2v", cache_limit: 0 });
    const counts = (events: readonly TrainEvent[]) => {
      const last = events.flatMap((event) => event.type === "cache" ? [[event.kind, event] as const] : []);
      return [...new Map(last)].map(([kind, { done, total, reused }]) => [kind, done, total, reused]);
    };
    const statuses = (events: readonly TrainEvent[]) =>
      events.flatMap((event) => event.type === "status" ? event.message.replace(/^.*: /, "") : []);
    const first = await fill(config);
    assert.deepEqual(counts(first), [["prompt", 4, 4, 0], ["video", 4, 4, 0], ["image", 16, 16, 0]]);
    assert.deepEqual(statuses(first), ["0 reused, 24 new, 0 changed"]);
    const prompts = join(folder, "clips", "prompts.txt");
    writeFileSync(prompts, readFileSync(prompts, "utf8").replace(/^\S+/, "Suddenly"));
    const second = await fill(config);
    assert.deepEqual(counts(second), [["prompt", 4, 4, 3], ["video", 4, 4, 4], ["image", 16, 16, 16]]);
    assert.match(statuses(second).join(), /^23 reused, 0 new, 1 changed \(prompt of .*\),removed 1 unused entries/);
    assert.deepEqual(statuses(await fill(config)), ["24 reused, 0 new, 0 changed"]);
  }));

Deno.test("condition images are encoded as I + exp(-3 + n / 2) noise, with n and noise of clip and variant", () =>
  inScratch(async (folder) => {
    const { device } = await testDevice();
    for (const image_noise of ["per_sample", "per_batch"] as const) {
      const config = configOf(folder, { model: "tiny-5b-i2v", model_name: "cogvideox-i2v", image_noise, seed: 5 });
      await fill(config);
      const model = openModelFolder(config.model_path!);
      using data = await prepareData(config, model);
      await using decoder = new Decoder();
      using session = new Session(device);
      using vae = openVae(session, model.path);
      for (const [sample, variant] of [[1, 0], [3, 2]] as const) {
        const { image, variants, item } = data.samples[sample]!;
        assert.equal(item.index, sample);
        const picture = await decoder.decode(image!.picture, new AbortController().signal);
        const drawn = (purpose: Purpose, sample: number, count: number) =>
          new RandomStream({ seed: 5, purpose, step: variant, sample }).fillNormals(new Float64Array(count));
        const sigma = Math.exp(-3 + drawn("imageSigma", image_noise === "per_batch" ? 0 : sample, 1)[0]! / 2);
        const noise = drawn("imageNoise", sample, 3 * 32 * 48);
        const pixels = normalise(picture).map((value, i) => value + sigma * noise[i]!);
        const { mean, logvar } = await vae.encode({ data: pixels, shape: [3, 1, 32, 48] });
        const found = data.cache.read(variants[variant]!)!;
        assert.deepEqual(found.shape, [32, 1, 4, 6]);
        assert.ok(relativeL2(found.data, [...mean.data, ...logvar.data]) < 1e-4, `${image_noise}: clip ${sample}`);
      }
    }
  }));
