/** What the engine tells late, after the call that caused it: the next look at a result ends the run with it. */
import assert from "node:assert/strict";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { UserError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { Tensor } from "../../lib/plan/tensor.ts";

Deno.test("a device says in its title that a software driver computes, and which engine was taken", async () => {
  using device = await openDevice({ engine: "deno" });
  const { description, software } = device.adapter;
  const kind = software ? " (a software driver: the CPU computes)" : "";
  assert.equal(device.title, `${description}${kind}, engine deno: as set`);
});

const tensor = () => new Tensor("t", [4], "f32", { resident: true });

Deno.test("memory that runs out late ends the run at the next result, with what to do, and nothing goes on after it", async () => {
  using device = await openDevice({ engine: "deno" });
  using session = new Session(device);
  const held = tensor();
  session.write(held, new Float32Array(4));
  await session.readF32(held);
  const error = new GPUOutOfMemoryError("not enough memory left");
  device.gpu.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
  const isTold = (error: unknown) =>
    error instanceof UserError && /^The GPU has no memory left: not enough memory left/.test(error.message) &&
    /plan --fit.*resume_from_checkpoint: latest/.test(error.hint!);
  for (let i = 0; i < 2; i++) await assert.rejects(session.readF32(held), isTold);
  assert.throws(() => device.check(), isTold);
});

for (
  const [what, body, expected] of [
    ["that cannot be read", "  undefined_function();", /unknown identifier/],
    ["of wrong types", "  store_x(gid, 1u);", /store_x\(gid, 1u\)/],
  ] as const
) {
  Deno.test(`a kernel ${what} is named with its line when its result is wanted`, async () => {
    using device = await openDevice({ engine: "deno" });
    using session = new Session(device);
    const kernel = buildKernel({
      name: "bad_kernel",
      spec: { x: "f32" },
      params: ["count"],
      buffers: [{ name: "x", dtype: "f32" }],
      workgroupSize: 64,
      body,
    });
    session.pipelines.get(kernel);
    await assert.rejects(session.readF32(tensor()), ({ message }: Error) => {
      assert.match(message, /bad_kernel\(x=f32\)/);
      assert.match(message, expected);
      const line = 1 + kernel.code.split("\n").indexOf(body);
      assert.match(message, new RegExp(`:${line}:`));
      return true;
    });
  });
}
