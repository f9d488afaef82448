/** The encoders on a device with small buffers and bindings give the same bits. */
import assert from "node:assert/strict";
import { Session } from "../../lib/gpu/session.ts";
import { openTextEncoder } from "../../lib/models/t5/encoder.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { forecastVae } from "../../lib/models/vae/chunks.ts";
import { RELEASED_VAE } from "../../lib/models/vae/config.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { testDevice } from "../kernels/run.ts";
import { casesOf, pipelineOf, referencePath } from "../reference.ts";
import { LimitedSession, piecesOf } from "../limited_session.ts";
import { Golden } from "./golden.ts";
import { goldenPrompts } from "./t5/case.ts";
import { goldenVolume, plainVideo } from "./vae/case.ts";

/** Both results, the second with buffers and bindings of `bytes` bytes, all of which the largest buffer has. */
async function bothWays<T>(bytes: number, run: (session: Session) => Promise<T>): Promise<[whole: T, pieces: T]> {
  const { device } = await testDevice();
  using whole = new Session(device);
  using small = new LimitedSession(device, piecesOf(bytes));
  const results: [T, T] = [await run(whole), await run(small)];
  assert.equal(small.largestBuffer, bytes);
  return results;
}

Deno.test("prompts encode in pieces", async () => {
  const stored = casesOf("text", "embeddings")[0]!;
  using golden = new Golden(referencePath(stored.file));
  const ids = goldenPrompts(golden).slice(0, 3);
  // Half to all of what one activation needs.
  const activation = 4 * golden.shape("embeddings").with(0, ids.length).reduce((a, b) => a * b);
  const [whole, pieces] = await bothWays(2 ** Math.floor(Math.log2(activation)), async (session) => {
    using encoder = openTextEncoder(session, pipelineOf(stored));
    return await encoder.encode(ids);
  });
  assert.deepEqual(pieces, whole);
});

Deno.test("videos encode and decode in pieces", async () => {
  const { stored, frameBytes } = plainVideo();
  using golden = new Golden(referencePath(stored.file));
  const [whole, pieces] = await bothWays(3 * frameBytes, async (session) => {
    using vae = openVae(session, pipelineOf(stored), { tiling: false });
    return [await vae.encode(goldenVolume(golden, "video")), await vae.decode(goldenVolume(golden, "sample"))];
  });
  assert.deepEqual(pieces, whole);
});

Deno.test("a frame larger than a binding is bound in pieces", () => {
  const limits = { ...DISCRETE_LIMITS, chunkBytes: 240 * 2 ** 20, bindingBytes: 2 ** 27 };
  const [forecast] = forecastVae(RELEASED_VAE, "encoder", [1, 480, 720], { tiling: false, limits });
  const { steps, launches, memory } = forecast!.recording;
  const pieces = steps.map(({ tensors }) => tensors.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 2 ** 27), 0));
  assert.ok(pieces.some((count, i) => count > steps[i]!.tensors.length));
  // A window across pieces takes one binding more.
  pieces.forEach((count, i) => assert.ok(launches[i]!.kernel.buffers.length >= count, launches[i]!.kernel.key));
  assert.ok(memory.chunks.every((bytes) => bytes <= limits.chunkBytes));
});
