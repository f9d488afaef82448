/** Ops on a device that holds a part of their largest tensor in a buffer or a binding: the same bits as in one piece. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import type { Device } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { finish } from "../../lib/plan/recording.ts";
import { testDevice } from "../kernels/run.ts";
import { LimitedSession, piecesOf } from "../limited_session.ts";
import { differentiableCases, opCases } from "./cases.ts";
import { planGradients } from "./gradients.ts";
import { type OpCase, recordForward, runForward } from "./op_case.ts";

/** Bytes of the largest tensor of the forward pass; a piece has at least 256. */
function largestBytes(description: OpCase): number {
  const { steps } = finish(recordForward(description, plainTarget(0)).plan, DISCRETE_LIMITS);
  return Math.max(256, ...steps.flatMap(({ tensors }) => tensors.map(({ bytes }) => bytes)));
}

/** A quarter of the largest tensor; a half where launches of many tensors would not find bindings enough (Dawn has 16). */
function partBytes(description: OpCase, { limits }: Device): number {
  return Math.ceil(largestBytes(description) / (limits.bindings < 20 ? 2 : 4) / 256) * 256;
}

for (const description of opCases) {
  Deno.test(`${description.name} in pieces: forward`, async () => {
    const { device } = await testDevice();
    using whole = new Session(device);
    using small = new LimitedSession(device, piecesOf(partBytes(description, device)));
    const expected = await runForward(whole, description, device.target);
    const { bytes, recording: { steps, launches } } = await runForward(small, description, device.target);
    assert.deepEqual(bytes, expected.bytes);
    assert.ok(small.largestBuffer <= small.limits.chunkBytes, `a buffer of ${small.largestBuffer} bytes`);
    const divided = steps.some((step, i) => step.kind === "launch" && step.launch !== launches[i]);
    assert.equal(divided, largestBytes(description) > 256);
  });
}

for (const description of differentiableCases) {
  Deno.test(`${description.name} in pieces: gradient`, async () => {
    const { device } = await testDevice();
    using whole = new Session(device);
    using small = new LimitedSession(device, piecesOf(partBytes(description, device)));
    const expected = await planGradients(whole, description, device.target, "before");
    assert.deepEqual(await planGradients(small, description, device.target, "before"), expected);
    assert.ok(small.largestBuffer <= small.limits.chunkBytes, `a buffer of ${small.largestBuffer} bytes`);
  });
}
