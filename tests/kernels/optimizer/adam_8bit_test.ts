import assert from "node:assert/strict";
import type { DType, Target } from "../../../kernels/core/kernel.ts";
import { adamState } from "../../../kernels/optimizer/adam.ts";
import { adamw8bit, quantisedMoments } from "../../../kernels/optimizer/adam_8bit.ts";
import { Executable } from "../../../lib/gpu/executable.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { finish } from "../../../lib/plan/recording.ts";
import { Tensor } from "../../../lib/plan/tensor.ts";
import { numbers, relativeL2, testDevice } from "../run.ts";
import { targets } from "../targets.ts";

const BETAS = { beta1: 0.9, beta2: 0.95 };
const KEEP = Float32Array.of(0, 1, 0, 0);
const SIZE = 1100;
const LEARNING_RATE = 1e-2;

/** Gradients whose size spans some decades inside every block, with noise from step to step. */
function gradient(step: number, decades: number): Float32Array<ArrayBuffer> {
  const noise = numbers(SIZE, step + 10);
  return numbers(SIZE, 5).map((v, i) => (v + noise[i]!) * 10 ** (-decades * (i * 37 % 100) / 100));
}

/** AdamW in float64. */
function reference(start: Float32Array, steps: number, decades: number): Float64Array {
  const p = Float64Array.from(start);
  const [m, v] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  for (let step = 1; step <= steps; step++) {
    gradient(step, decades).forEach((g, i) => {
      m[i] = 0.9 * m[i]! + 0.1 * g;
      v[i] = 0.95 * v[i]! + 0.05 * g * g;
      const root = Math.sqrt(v[i]! / (1 - 0.95 ** step));
      p[i] = p[i]! * (1 - LEARNING_RATE * 0.01) - LEARNING_RATE / (1 - 0.9 ** step) * m[i]! / (root + 1e-8);
    });
  }
  return p;
}

/** Runs `steps` steps from `start` and gives back the parameters. */
async function train(
  target: Target,
  start: Float32Array<ArrayBuffer>,
  steps: number,
  decades: number,
  control = KEEP,
): Promise<Float32Array> {
  const { device } = await testDevice();
  using session = new Session(device);
  const { words, scales } = quantisedMoments(SIZE);
  const resident = (name: string, size: number, dtype: DType = "f32") =>
    new Tensor(name, [size], dtype, { resident: true });
  const [p, g, state, flags] = [resident("p", SIZE), resident("g", SIZE), resident("state", 4), resident("control", 4)];
  const moments = [resident("codes1", words, "u32"), resident("codes2", words, "u32"), resident("scales", scales)];
  const plan = new Plan({ target });
  const shape = { elements: SIZE, ...BETAS, eps: 1e-8, weightDecay: 0.01 };
  const launch = adamw8bit(target, { gradients: "f32", copy: "none" }, shape);
  plan.launch(launch, [p, g, ...moments, state, flags], [p, ...moments]);
  using executable = new Executable(session, finish(plan, session.limits));
  session.write(p, start);
  session.write(flags, control);
  for (let step = 1; step <= steps; step++) {
    session.write(g, gradient(step, decades));
    session.write(state, adamState({ learningRate: LEARNING_RATE, ...BETAS, step, lossScale: 1 }));
    executable.run();
  }
  return new Float32Array((await session.read([p]))[0]!);
}

for (const [decades, bound] of [[2, 0.05], [4, 0.08]] as const) {
  Deno.test(`8-bit moments stay within ${bound} of exact AdamW over ${decades} decades, in the same bits every time`, async () => {
    const start = numbers(SIZE, 1);
    const exact = reference(start, 40, decades);
    const moved = (values: ArrayLike<number>) => Float64Array.from(start, (v, i) => v - values[i]!);
    const results: Float32Array[] = [];
    for (const target of await targets()) {
      results.push(await train(target, start, 40, decades));
      assert.ok(relativeL2(moved(results[0]!), moved(exact)) < bound);
    }
    for (const result of results) assert.deepEqual(result, results[0]);
  });
}

Deno.test("a skipped step with 8-bit moments changes nothing", async () => {
  const [target] = await targets();
  const start = numbers(SIZE, 1);
  assert.deepEqual(await train(target!, start, 2, 2, Float32Array.of(NaN, NaN, 1, NaN)), start);
});
