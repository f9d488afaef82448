/** Codes of 8-bit moments: what lies between two of them is kept on average, and what is not zero never becomes zero. */
import assert from "node:assert/strict";
import { adamState } from "../../../kernels/optimizer/adam.ts";
import { adamw8bit, quantisedMoments } from "../../../kernels/optimizer/adam_8bit.ts";
import { Executable } from "../../../lib/gpu/executable.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { finish } from "../../../lib/plan/recording.ts";
import { Tensor } from "../../../lib/plan/tensor.ts";
import { numbers, testDevice } from "../run.ts";

/** One block. */
const SIZE = 256;

/** Codes of the second moment behind `steps` steps from these ones under a scale of 1, where 255 stands for a root of 1. */
async function codesAfter(
  start: Uint8Array<ArrayBuffer>,
  beta2: number,
  steps: number,
  gradient: (step: number) => Float32Array<ArrayBuffer>,
): Promise<Uint8Array> {
  const { device } = await testDevice();
  using session = new Session(device);
  const { words, scales } = quantisedMoments(SIZE);
  const resident = (name: string, size: number, dtype: "f32" | "u32" = "f32") =>
    new Tensor(name, [size], dtype, { resident: true });
  const [p, g, state, control] = ["p", "g", "state", "control"].map((name) =>
    resident(name, name.length > 1 ? 4 : SIZE)
  );
  const moments = [resident("codes1", words, "u32"), resident("codes2", words, "u32"), resident("scales", scales)];
  const plan = new Plan({ target: device.target });
  const shape = { elements: SIZE, beta1: 0.9, beta2, eps: 1e-8, weightDecay: 0 };
  const launch = adamw8bit(device.target, { gradients: "f32", copy: "none" }, shape);
  plan.launch(launch, [p!, g!, ...moments, state!, control!], [p!, ...moments]);
  using executable = new Executable(session, finish(plan, session.limits));
  session.write(control!, Float32Array.of(0, 1, 0, 0));
  session.write(moments[1]!, start);
  session.write(moments[2]!, Float32Array.of(0, 1, 0, 0));
  for (let step = 1; step <= steps; step++) {
    session.write(g!, gradient(step));
    session.write(state!, adamState({ learningRate: 1e-3, beta1: 0.9, beta2, step, lossScale: 1 }));
    await executable.run();
  }
  return new Uint8Array((await session.read([moments[1]!]))[0]!);
}

Deno.test("a second moment that decays by an eighth of a code a step has its mean after a hundred", async () => {
  const codes = await codesAfter(new Uint8Array(SIZE).fill(255), 0.99, 100, (step) => {
    // Every other element keeps its root of 1; the others have next to no gradient, another one in every step.
    return numbers(SIZE, step).map((noise, i) => i % 2 === 0 ? 1 : 1e-4 * noise);
  });
  const decayed = codes.filter((_, i) => i % 2 === 1);
  assert.ok(codes.every((code, i) => i % 2 === 1 || code === 255));
  const expected = 255 + 16 * Math.log2(0.99 ** 50);
  const mean = decayed.reduce((sum, code) => sum + code, 0) / decayed.length;
  // A step adds a variance of 0.116 (1 - 0.116) to a code: the mean of 128 deviates by 0.28.
  assert.ok(Math.abs(mean - expected) < 5 * 0.28, `${mean}, expected ${expected}`);
});

Deno.test("a root that is far below the largest of its block gets the least code, and zero stays zero", async () => {
  const start = Uint8Array.from({ length: SIZE }, (_, i) => [255, 1, 0, 255][i % 4]!);
  const codes = await codesAfter(start, 0.5, 1, () => {
    return Float32Array.from({ length: SIZE }, (_, i) => [1, 0, 0, -1][i % 4]!);
  });
  assert.deepEqual([...codes.subarray(0, SIZE)], [...start]);
});
