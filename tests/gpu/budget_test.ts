/** A session allocates within `gpu_memory` and not a byte beyond. */
import assert from "node:assert/strict";
import { UserError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { engine } from "../engine.ts";

Deno.test("what does not fit gpu_memory is refused by name and number, counts nothing, and leaves room for what fits", async () => {
  using device = await openDevice({ engine });
  using session = new Session(device, 1024);
  const buffer = session.createBuffer(768, GPUBufferUsage.STORAGE, "weights");
  assert.throws(() => session.createBuffer(260, GPUBufferUsage.STORAGE, "activations"), (error) => {
    assert.ok(error instanceof UserError);
    assert.match(
      error.summary,
      /^Cannot allocate 260 bytes for activations: 768 bytes are in use and gpu_memory allows 1024$/,
    );
    assert.match(error.hint!, /run `plan`/);
    return true;
  });
  assert.throws(() => session.createTexture("rgba32float", 1, "operand"), /bytes for operand: 768 bytes are in use/);
  assert.equal(session.allocatedBytes, 768);
  session.destroyBuffer(session.createBuffer(256, GPUBufferUsage.STORAGE, "fits"));
  session.destroyBuffer(buffer);
  assert.deepEqual([session.allocatedBytes, session.peakBytes], [0, 1024]);
});
