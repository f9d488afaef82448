/** A GPU that is lost: what was wanted from it ends with one error that says so, not with the engine's words about validation. */
import assert from "node:assert/strict";
import { UserError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { engine } from "../engine.ts";

const isLoss = (error: unknown) =>
  error instanceof UserError && /^The GPU was lost/.test(error.message) && /resume_from_checkpoint/.test(error.message);

Deno.test("reading from a lost GPU says that it was lost and how to continue", async () => {
  using device = await openDevice({ engine });
  const buffer = device.gpu.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_SRC });
  const staging = device.gpu.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ });
  using session = new Session(device);
  const ranges = [[{ buffer, offset: 0, bytes: 16 }]];
  assert.deepEqual(new Uint8Array((await session.readRanges(ranges))[0]!), new Uint8Array(16));
  device.gpu.destroy();
  await assert.rejects(device.map([staging]), isLoss);
  await assert.rejects(session.readRanges(ranges), isLoss);
  assert.throws(() => device.check(), isLoss);
});
