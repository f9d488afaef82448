/** Adapters may sit on any of the projections, so each operand of attention must get its gradient without the others. */
import assert from "node:assert/strict";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { attention } from "../../lib/ops/attention.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { gradientOf } from "./gradients.ts";

const SHAPE = [1, 11, 128];

/** Gradients of the operands that `wanted` names. */
async function gradients(wanted: string): Promise<Map<string, Float32Array>> {
  const { device } = await testDevice();
  using session = new Session(device);
  const plan = new Plan({ target: device.target });
  const operands = ["q", "k", "v"].map((name, i) => {
    const tensor = new Tensor(name, SHAPE, "f32", { resident: true, needsGrad: wanted.includes(name) });
    session.write(tensor, numbers(tensor.size, i + 1));
    return tensor;
  });
  const [q, k, v] = operands as [Tensor, Tensor, Tensor];
  const g = new Tensor("g", SHAPE, "f32", { resident: true });
  session.write(g, numbers(g.size, 9));
  plan.backward(attention(plan, q, k, v, 2), g);
  const found = operands.filter(({ name }) => wanted.includes(name)).map((tensor) =>
    plan.output(gradientOf(plan, tensor))
  );
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
  const arrays = await executable.read(found);
  return new Map([...wanted].map((name, i) => [name, new Float32Array(arrays[i]!)]));
}

Deno.test("attention gives each operand its gradient whichever of them need one", async () => {
  const all = await gradients("qkv");
  for (const wanted of ["q", "k", "v", "qk", "qv", "kv"]) {
    for (const [name, gradient] of await gradients(wanted)) {
      assert.deepEqual(gradient, all.get(name), `${name} of ${wanted}`);
    }
  }
});
