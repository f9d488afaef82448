/** Each op of the case table: forward against float64, gradient in the middle of a graph, and its counted work. */
import assert from "node:assert/strict";
import type { Device } from "../../lib/gpu/device.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { decodeF32, type StorageType } from "../../lib/io/safetensors/half.ts";
import { plainTarget, type Target } from "../../kernels/core/kernel.ts";
import { elements } from "../../lib/plan/tensor.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { targets } from "../kernels/targets.ts";
import { LimitedSession } from "../limited_session.ts";
import { differentiableCases, opCases } from "./cases.ts";
import { gradientError, planGradients } from "./gradients.ts";
import { caseValues, caseWork, type OpCase, runForward } from "./op_case.ts";

/** Relative L2 error that storing the result allows: half a unit in the last place, or f32 sums. */
const FORWARD: Readonly<Record<string, number>> = { f32: 1e-6, f16: 5e-4, bf16: 4e-3 };

/** Of f32 gradients, through two ops and sums of a thousand terms. */
const GRADIENT = 2e-6;

function texturedSession(device: Device, leastBytes: number): Session {
  return new LimitedSession(device, { textures: { ...device.limits.textures!, leastBytes } });
}

interface Forward {
  readonly error: number;
  readonly dtype: string;
  readonly bytes: ArrayBuffer;
}

/** Runs a case with operands of `textureBytes` and more read through textures. */
async function forward(description: OpCase, target: Target, textureBytes: number): Promise<Forward> {
  const { device } = await testDevice();
  using session = texturedSession(device, textureBytes);
  const { bytes, dtype } = await runForward(session, description, target);
  const expected = description.reference(
    Object.fromEntries([...caseValues(description)].map(([name, stored]) => [name, Float64Array.from(stored)])),
  );
  return { error: relativeL2(decodeF32(new Uint8Array(bytes), dtype as StorageType), expected), dtype, bytes };
}

for (const description of opCases) {
  Deno.test(`${description.name}: forward`, async () => {
    for (const target of await targets()) {
      const { error, dtype, bytes } = await forward(description, target, Infinity);
      assert.ok(error <= FORWARD[dtype]!, `relative error ${error} in ${dtype} with ${target.subgroups} lanes`);
      assert.deepEqual((await forward(description, target, 0)).bytes, bytes, "textures change the result");
    }
  });
}

for (const description of differentiableCases) {
  Deno.test(`${description.name}: gradient`, async () => {
    const adds = Object.values(description.operands).every(({ role, shared = "both" }) =>
      role !== "input" || shared === "both"
    );
    const { device } = await testDevice();
    for (const target of await targets()) {
      for (const order of adds ? ["before", "after"] as const : ["before"] as const) {
        using session = texturedSession(device, Infinity);
        const gradients = await planGradients(session, description, target, order);
        const { error, where } = gradientError(description, gradients);
        assert.ok(
          error <= GRADIENT,
          `${where}: relative error ${error} with ${target.subgroups} lanes, other ${order}`,
        );
        using textured = texturedSession(device, 0);
        const again = await planGradients(textured, description, target, order);
        assert.deepEqual(again, gradients, "textures change the result");
      }
    }
  });
}

Deno.test("counted work is that of the formulas, and traffic covers all operands and the result", () => {
  for (const description of opCases) {
    const { flops, bytes } = caseWork(description, plainTarget(32));
    const operands = Object.values(description.operands)
      .reduce((sum, { shape, dtype = "f32" }) => sum + elements(shape) * (dtype === "f32" ? 4 : 2), 0);
    // A single frame to halve is handed on without a launch.
    assert.ok(bytes >= operands || description.name.startsWith("halving 1 "), description.name);
    if (description.flops === undefined) continue;
    const ratio = flops / description.flops;
    // Sums of divided products come on top.
    assert.ok(ratio >= 1 && ratio < 1.1, `${description.name} counts ${flops}, expected ${description.flops}`);
  }
});
