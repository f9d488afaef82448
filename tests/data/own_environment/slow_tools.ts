/** Decoding ahead with an ffmpeg that takes its time; see tests/own_process.ts for why this is a program of its own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Decoder } from "../../../lib/data/samples/decoder.ts";
import { decodePixels } from "../../../lib/data/samples/sample_pixels.ts";
import { UserError } from "../../../lib/errors.ts";
import { HUNG } from "../../patience.ts";
import { fakeTools, withPath } from "../media.ts";
import { fakeEncoder, fillAll, latentOf, pixelTasks, prepareAll, withDataset } from "../samples/fake_encoders.ts";

Deno.test("the next clip is decoded while the encoder blocks this thread, as waiting for a GPU does", async () => {
  await withDataset(async (folder, cache) => {
    const samples = await prepareAll(folder, cache.folder);
    const real = (await new Deno.Command("which", { args: ["ffmpeg"] }).output()).stdout;
    const decoded = join(folder, "decoded");
    const ffmpeg = new TextDecoder().decode(real).trim();
    const bin = await fakeTools(folder, `"${ffmpeg}" "$@"; code=$?; echo >> "${decoded}"; exit $code`);
    await withPath(`${bin}:${Deno.env.get("PATH")}`, async () => {
      await using decoder = new Decoder();
      let encoded = 0;
      const encoder = fakeEncoder(1, () => {
        const wanted = Math.min(++encoded + 1, samples.length);
        const end = performance.now() + HUNG;
        // ffmpeg ends when all that it says was read, more than its pipe holds.
        while (Deno.readTextFileSync(decoded).length < wanted) {
          assert.ok(performance.now() < end, `clip ${wanted} is not decoded while clip ${encoded} is encoded`);
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
        }
      });
      const decode = decoder.decode.bind(decoder);
      assert.equal(await fillAll(cache, pixelTasks(samples, decode), { encoder }), 3);
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
    const bin = await fakeTools(folder, "exec sleep 300");
    await withPath(`${bin}:${Deno.env.get("PATH")}`, async () => {
      const started = performance.now();
      await assert.rejects(decoder.decode(sample!.clip, AbortSignal.timeout(300)), { name: "TimeoutError" });
      assert.ok(performance.now() - started < HUNG);
    });
  });
});
