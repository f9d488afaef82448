import assert from "node:assert/strict";
import { join } from "node:path";
import { existsSync } from "node:fs";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import type { Encoder, FillTask } from "../../../lib/data/samples/cache_fill.ts";
import { cacheKey, type CacheRequest } from "../../../lib/data/cache/key.ts";
import { describePlan, planCache, writeIndex } from "../../../lib/data/cache/plan.ts";
import type { RgbFrames } from "../../../lib/data/video/video.ts";
import { decodePixels, type EncodingSettings, type Sample } from "../../../lib/data/samples/sample_pixels.ts";
import { fromFileUrl } from "../../paths.ts";
import {
  embeddingOf,
  fakeEncoder,
  fillAll,
  type Input,
  latentOf,
  pixelTasks,
  prepareAll,
  promptTasks,
  withDataset,
} from "./fake_encoders.ts";
import { cut, ffmpeg, makeClip, withFolder } from "../media.ts";

const requestsOf = (samples: Sample[]): CacheRequest[] =>
  samples.flatMap(({ prompt, latent, image }) => [prompt, latent, ...(image ? [image.request] : [])]);

/** Fills a cache with everything of these samples; returns how many prompts and latents were built. */
async function fillBoth(cache: SampleCache, samples: Sample[]): Promise<[number, number]> {
  const built: [number, number] = [
    await fillAll(cache, promptTasks(samples), { encoder: fakeEncoder(2) }),
    await fillAll(cache, pixelTasks(samples)),
  ];
  await writeIndex(cache, requestsOf(samples));
  return built;
}

Deno.test("filling a cache encodes everything once and gives the encoder exactly the sample's pixels", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    assert.equal(describePlan(await planCache(cache, requestsOf(samples))), "0 reused, 5 new, 0 changed");
    assert.deepEqual(await fillBoth(cache, samples), [2, 3]);
    assert.deepEqual(await fillBoth(cache, samples), [0, 0]);
    assert.equal(describePlan(await planCache(cache, requestsOf(samples))), "5 reused, 0 new, 0 changed");
    for (const { latent, prompt, clip, item } of samples) {
      const pixels = await decodePixels(clip);
      assert.equal(pixels.data.length, 3 * 9 * 16 * 32);
      assert.deepEqual(cache.read(latent), latentOf(pixels));
      assert.deepEqual(cache.read(prompt), embeddingOf(item.prompt));
    }
  });
});

Deno.test("a plan names what changed and why, and only that is built again", async () => {
  await withDataset(async (folder, cache) => {
    await fillBoth(cache, await prepareAll(folder, cache.folder));
    const plan = async (changes: Partial<EncodingSettings> = {}) => {
      const samples = await prepareAll(folder, cache.folder, changes);
      const plan = await planCache(cache, requestsOf(samples));
      const reasons = new Set(plan.changed.map(({ request, changed }) => `${request.kind}: ${changed}`));
      return { text: describePlan(plan), reasons: [...reasons].sort(), samples };
    };
    assert.equal((await plan()).text, "5 reused, 0 new, 0 changed");

    // Settings: every field touches exactly the entries that depend on it.
    const latents = "2 reused, 0 new, 3 changed (latent of a.mp4, latent of b.mp4, latent of c.mp4)";
    for (
      const [changes, field] of [
        [{ vae: { vae: "weights 9" } }, "latent: vae"],
        [{ vae: { vae: "weights 1", tiling: true } }, "latent: tiling"],
        [{ filter: "lanczos" }, "latent: filter"],
        [{ frames: 5 }, "latent: frames"],
        [{ ffmpeg: "6" }, "latent: ffmpeg"],
      ] as const
    ) {
      const { text, reasons } = await plan(changes);
      assert.equal(text, latents);
      assert.deepEqual(reasons, [field]);
    }
    assert.deepEqual((await plan({ size: { width: 16, height: 16 } })).reasons, ["latent: filter,size"]);
    const text = await plan({ textEncoder: { textEncoder: "weights 2", maxTokens: 224 } });
    assert.equal(text.text, "3 reused, 0 new, 2 changed (prompt of a.mp4, prompt of b.mp4)");
    assert.deepEqual(text.reasons, ["prompt: maxTokens"]);

    // Content: one prompt edited, one clip replaced under its old name and time, one sample added.
    await Deno.writeTextFile(join(folder, "prompts.txt"), "same\nedited\nsame\nsame\n");
    await Deno.writeTextFile(join(folder, "videos.txt"), "a.mp4\nb.mp4\nc.mp4\nd.mp4\n");
    const { mtime } = await Deno.stat(join(folder, "c.mp4"));
    await ffmpeg(
      "-f",
      "lavfi",
      "-i",
      "mandelbrot=s=32x64:r=8",
      "-frames:v",
      "12",
      "-pix_fmt",
      "yuv420p",
      join(folder, "c.mp4"),
    );
    await Deno.utime(join(folder, "c.mp4"), mtime!, mtime!);
    await makeClip(join(folder, "d.mp4"), "48x48", 8, 12);
    const edited = await plan();
    assert.equal(edited.text, "3 reused, 1 new, 2 changed (prompt of b.mp4, latent of c.mp4)");
    assert.deepEqual(edited.reasons, ["latent: file", "prompt: prompt"]);
    assert.deepEqual(await fillBoth(cache, edited.samples), [1, 2]);

    // The index tells people what every entry is; it is rebuilt from the entries when it is lost.
    const index = JSON.parse(await Deno.readTextFile(join(cache.folder, "index.json")));
    assert.deepEqual(index[cacheKey(edited.samples[0]!.prompt)].names, ["a.mp4", "c.mp4", "d.mp4"]);
    await Deno.writeTextFile(join(cache.folder, "index.json"), "{broken");
    assert.equal((await plan()).text, "6 reused, 0 new, 0 changed");
    await Deno.remove(join(cache.folder, "index.json"));
    assert.match((await plan({ frames: 5 })).text, /^2 reused, 0 new, 4 changed \(.*, 1 more\)$/);
  });
});

Deno.test("a damaged entry is built again by the next fill", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    await fillBoth(cache, samples);
    const path = cache.pathOf("latent", cacheKey(samples[1]!.latent));
    const good = await Deno.readFile(path);
    await cut(path, path, good.length - 9);
    assert.deepEqual(await fillBoth(cache, samples), [0, 1]);
    assert.equal(cache.damaged.length, 1);
    assert.deepEqual(await Deno.readFile(path), good);
  });
});

Deno.test("clips that cannot be decoded or encoded are reported together after the others are stored", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    await Deno.writeTextFile(join(folder, "a.mp4"), "overwritten");
    await Deno.remove(join(folder, "b.mp4"));
    await assert.rejects(fillAll(cache, pixelTasks(samples)), (error) => {
      assert.ok(error instanceof UserErrors);
      assert.match(error.problems[0]!, /^a\.mp4: is a text file/);
      assert.match(error.problems[1]!, /^b\.mp4: no such file/);
      return error.problems.length === 2;
    });
    const [, , last] = samples.map(({ latent }) => cache.pathOf("latent", cacheKey(latent)));
    await Deno.remove(last!);
    const encoder: Encoder<Input> = {
      ...fakeEncoder(1),
      encode: ([input]) => {
        const latent = latentOf(input as RgbFrames);
        latent.data.fill(NaN, 3, 4);
        return Promise.resolve([latent]);
      },
    };
    await assert.rejects(
      fillAll(cache, pixelTasks(samples.slice(2)), { encoder }),
      /latent of "c\.mp4" has the value NaN at position 3/,
    );
    assert.ok(!existsSync(last!));
  });
});

Deno.test("an input that fails does not take those along that are encoded with it", async () => {
  await withFolder(async (folder) => {
    const cache = new SampleCache(folder);
    const names = ["a", "b", "c", "d"];
    const tasks = names.map((name): FillTask<Input> => ({
      request: { kind: "prompt", name, fields: { name } },
      prepare: () => {
        if (name === "b") throw new UserError("b is bad", "mend b");
        return name;
      },
    }));
    const batches: (readonly Input[])[] = [];
    const encoder = fakeEncoder(2, (inputs) => void batches.push(inputs));
    await assert.rejects(fillAll(cache, tasks, { encoder }), /1 problem\n {2}- b is bad; mend b\n/);
    assert.deepEqual(batches, [["a"], ["c", "d"]]);
    assert.equal(await fillAll(cache, tasks.filter((_, i) => i !== 1)), 0);
  });
});

Deno.test("a fault of the program and an abort end the filling at once", async () => {
  await withFolder(async (folder) => {
    const cache = new SampleCache(folder);
    const tasks = [0, 1, 2].map((i): FillTask<Input> => ({
      request: { kind: "prompt", name: `${i}`, fields: { i } },
      prepare: () => `${i}`,
    }));
    const broken = { ...fakeEncoder(1), encode: () => Promise.reject(new TypeError("broken")) };
    await assert.rejects(fillAll(cache, tasks, { encoder: broken }), TypeError);
    const stop = new AbortController();
    const encoder = fakeEncoder(1, () => stop.abort());
    await assert.rejects(fillAll(cache, tasks, { encoder, signal: stop.signal }), { name: "AbortError" });
    assert.deepEqual(tasks.map(({ request }) => cache.read(request) !== undefined), [true, false, false]);
  });
});

Deno.test("ranks share the work without gaps or repeats", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    const built = [];
    for (const rank of [0, 1]) built.push(await fillAll(cache, pixelTasks(samples), { share: { rank, size: 2 } }));
    assert.deepEqual(built, [2, 1]);
    assert.ok(samples.every((sample) => cache.read(sample.latent) !== undefined));
  });
});

Deno.test("condition pictures: own file or first frame, fitted as the clip or resized as the original trainer", async () => {
  await withDataset(async (folder, cache) => {
    await ffmpeg("-i", join(folder, "a.mp4"), "-frames:v", "1", join(folder, "a.png"));
    await ffmpeg("-f", "lavfi", "-i", "mandelbrot=s=96x32", "-frames:v", "1", join(folder, "m.png"));
    await Deno.writeTextFile(join(folder, "images.txt"), "a.png\nm.png\na.png\n");
    const own = await prepareAll(folder, cache.folder, { images: true });
    assert.equal(
      (await fillBoth(cache, own))[1],
      5,
      "three clips, and two pictures as the first and third are the same",
    );
    assert.deepEqual(cache.read(own[0]!.image!.request)!.shape, [32, 1, 2, 4]);
    await Deno.remove(join(folder, "images.txt"));
    for (const fit of ["crop", "stretch"] as const) {
      const first = await prepareAll(folder, cache.folder, { images: true, fit });
      assert.equal(cacheKey(first[0]!.image!.request) === cacheKey(own[0]!.image!.request), false);
      for (const { image, clip } of first) {
        const picture = await decodePixels(image!.picture), frames = await decodePixels(clip);
        assert.deepEqual([picture.frames, picture.width, picture.height], [1, 32, 16]);
        if (fit === "crop") assert.deepEqual(picture.data, frames.data.subarray(0, picture.data.length));
      }
    }
  });
});

Deno.test("two processes filling one cache at once leave it whole", async () => {
  await withDataset(async (folder, cache) => {
    await Deno.mkdir(cache.folder);
    const program = fromFileUrl("./fake_encoders.ts", import.meta.url);
    const run = () =>
      new Deno.Command(Deno.execPath(), { args: ["run", "-A", program, folder, cache.folder] }).output();
    for (const { success, stdout, stderr } of await Promise.all([run(), run()])) {
      assert.ok(success, new TextDecoder().decode(stderr));
      assert.match(new TextDecoder().decode(stdout), /^[0-5] 0$/);
    }
    const samples = await prepareAll(folder, cache.folder);
    assert.deepEqual(await fillBoth(cache, samples), [0, 0]);
    assert.deepEqual(cache.damaged, []);
  });
});

Deno.test("runs that write the index at the same time keep each other's names", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    await fillBoth(cache, samples);
    await Promise.all(samples.map(({ prompt }, i) => writeIndex(cache, [{ ...prompt, name: `run ${i}` }])));
    const index = JSON.parse(await Deno.readTextFile(join(cache.folder, "index.json")));
    assert.deepEqual(index[cacheKey(samples[0]!.prompt)].names.sort(), ["a.mp4", "c.mp4", "run 0", "run 2"]);
  });
});
