/** Decoding ahead with an ffmpeg that takes its time; see tests/own_process.ts for why this is a program of its own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Decoder } from "../../../lib/data/samples/decoder.ts";
import { decodePixels } from "../../../lib/data/samples/sample_pixels.ts";
import { UserError } from "../../../lib/errors.ts";
import { fakeTools, withPath } from "../media.ts";
import { fakeEncoder, fillAll, latentOf, pixelTasks, prepareAll, withDataset } from "../samples/fake_encoders.ts";

Deno.test("the next clip is decoded while the encoder blocks this thread, as waiting for a GPU does", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    const real = (await new Deno.Command("which", { args: ["ffmpeg"] }).output()).stdout;
    const bin = await fakeTools(folder, `sleep 0.8; exec ${new TextDecoder().decode(real).trim()} "$@"`);
    await withPath(`${bin}:${Deno.env.get("PATH")}`, async () => {
      await using decoder = new Decoder();
      const waits: number[] = [];
      let free = performance.now();
      const encoder = fakeEncoder(1, () => {
        waits.push(performance.now() - free);
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1600);
        free = performance.now();
      });
      const decode = decoder.decode.bind(decoder);
      assert.equal(await fillAll(cache, pixelTasks(samples, decode), { encoder }), 3);
      // Decoded afterwards, each of the two would have been waited for 800 ms and more.
      assert.ok(waits[1]! + waits[2]! < 800, `waited ${waits.map(Math.round)} ms`);
    });
    for (const { latent, clip } of samples) assert.deepEqual(cache.read(latent), latentOf(await decodePixels(clip)));
  });
});

Deno.test("a decoder says why a clip cannot be decoded, and ends ffmpeg when it is stopped", async () => {
  await withDataset(async (folder, cache) => {
    const [sample] = await prepareAll(folder, cache.folder);
    const never = new AbortController().signal;
    await using decoder = new Decoder();
    await assert.rejects(
      decoder.decode({ ...sample!.clip, path: join(folder, "none.mp4"), label: "none.mp4" }, never),
      (error) => error instanceof UserError && error.summary === "none.mp4: no such file",
    );
    const bin = await fakeTools(folder, "exec sleep 30");
    await withPath(`${bin}:${Deno.env.get("PATH")}`, async () => {
      const started = performance.now();
      await assert.rejects(decoder.decode(sample!.clip, AbortSignal.timeout(300)), { name: "TimeoutError" });
      assert.ok(performance.now() - started < 10_000);
    });
  });
});
