/** The encoders on a device with small buffers and bindings give the same bits. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Session } from "../../lib/gpu/session.ts";
import { openTextEncoder } from "../../lib/models/t5/encoder.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { forecastVae } from "../../lib/models/vae/chunks.ts";
import { RELEASED_VAE } from "../../lib/models/vae/config.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { testDevice } from "../kernels/run.ts";
import { referenceTest } from "../reference.ts";
import { LimitedSession, piecesOf } from "../limited_session.ts";
import { Golden } from "./golden.ts";
import { goldenPrompts } from "./t5/case.ts";
import { goldenVolume } from "./vae/case.ts";

/** Both results, the second with buffers and bindings of `bytes` bytes, all of which the largest buffer has. */
async function bothWays<T>(bytes: number, run: (session: Session) => Promise<T>): Promise<[whole: T, pieces: T]> {
  const { device } = await testDevice();
  using whole = new Session(device);
  using small = new LimitedSession(device, piecesOf(bytes));
  const results: [T, T] = [await run(whole), await run(small)];
  assert.equal(small.largestBuffer, bytes);
  return results;
}

referenceTest("prompts encode in pieces", async (folder) => {
  using golden = new Golden(join(folder, "text/t5-5b.safetensors"));
  const ids = goldenPrompts(golden).slice(0, 3);
  const [whole, pieces] = await bothWays(64 * 1024, async (session) => {
    using encoder = openTextEncoder(session, join(folder, "pipelines/tiny-5b"));
    return await encoder.encode(ids);
  });
  assert.deepEqual(pieces, whole);
});

referenceTest("videos encode and decode in pieces", async (folder) => {
  using golden = new Golden(join(folder, "vae/5b-9x32x32.safetensors"));
  const [whole, pieces] = await bothWays(96 * 1024, async (session) => {
    using vae = openVae(session, join(folder, "pipelines/tiny-5b"), { tiling: false });
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
