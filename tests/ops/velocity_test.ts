/** Noise in, loss and gradient out, against their definitions in float64. */
import assert from "node:assert/strict";
import type { Target } from "../../kernels/core/kernel.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { gelu } from "../../lib/ops/activation.ts";
import { velocityLoss, velocityTarget } from "../../lib/ops/velocity.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { numbers, relativeL2, testDevice } from "../kernels/run.ts";
import { targets } from "../kernels/targets.ts";
import { geluReference } from "./reference.ts";
import { gradientOf } from "./gradients.ts";

const SHAPE = [3, 2, 4, 6, 10];
const SIZE = SHAPE.reduce((a, b) => a * b);
const PER_SAMPLE = SIZE / 3;
/** Cumulative alpha, gradient scale and loss weight of each sample; the last only fills up the batch. */
const SAMPLES = [[0.9, 512, 0.5], [0.2, 512, 0.5], [0.6, 0, 0]] as const;

interface Results {
  readonly noisy: Float32Array;
  readonly velocity: Float32Array;
  readonly loss: number;
  readonly gradient: Float32Array;
}

const coefficients = Float32Array.from(SAMPLES.flatMap(([a, scale, weight]) => {
  return [Math.sqrt(a), Math.sqrt(1 - a), scale, weight];
}));
const [latents, noise, hidden] = [1, 2, 3].map((seed) => numbers(SIZE, seed).map((v) => 3 * v)) as [
  Float32Array<ArrayBuffer>,
  Float32Array<ArrayBuffer>,
  Float32Array<ArrayBuffer>,
];

async function run(target: Target): Promise<Results> {
  const { device } = await testDevice();
  using session = new Session(device);
  const plan = new Plan({ target });
  const z = plan.resident("latents", SHAPE, "f32");
  const eps = plan.resident("noise", SHAPE, "f32");
  const k = plan.resident("coefficients", [3, 4], "f32");
  const slot = plan.resident("loss", [4], "f32");
  const x = plan.resident("x", SHAPE, "f32", { needsGrad: true });
  const { noisy, velocity } = velocityTarget(plan, z, eps, k);
  const v = gelu(plan, x);
  plan.backward(v, velocityLoss(plan, v, velocity, k, slot));
  const outputs = [noisy, velocity, gradientOf(plan, x)].map((tensor) => plan.output(tensor));
  using executable = new Executable(session, finish(plan, session.limits));
  for (const [tensor, values] of [[z, latents], [eps, noise], [k, coefficients], [x, hidden]] as const) {
    session.write(tensor, values);
  }
  await executable.run();
  const read = (await executable.read([...outputs, slot])).map((bytes) => new Float32Array(bytes));
  return { noisy: read[0]!, velocity: read[1]!, gradient: read[2]!, loss: read[3]![0]! };
}

/** Loss of one sample: weight times the mean over its elements; the gradient takes its own scale. */
function reference(x: ArrayLike<number>) {
  const noisy = new Float64Array(SIZE);
  const velocity = new Float64Array(SIZE);
  const loss = [0, 0, 0];
  for (let i = 0; i < SIZE; i++) {
    const sample = Math.floor(i / PER_SAMPLE);
    const [a] = SAMPLES[sample]!;
    noisy[i] = Math.sqrt(a) * latents[i]! + Math.sqrt(1 - a) * noise[i]!;
    velocity[i] = Math.sqrt(a) * noise[i]! - Math.sqrt(1 - a) * latents[i]!;
    loss[sample]! += (geluReference(x[i]!) - velocity[i]!) ** 2 / PER_SAMPLE;
  }
  return { noisy, velocity, loss };
}

Deno.test("noised latents, weighted loss and scaled gradient are those of the formulas", async () => {
  const expected = reference(hidden);
  const loss = expected.loss.reduce((sum, value, sample) => sum + value * SAMPLES[sample]![2], 0);
  const gradient = Float64Array.from(hidden, (x, i) => {
    const derivative = (geluReference(x + 1e-6) - geluReference(x - 1e-6)) / 2e-6;
    const scale = SAMPLES[Math.floor(i / PER_SAMPLE)]![1];
    return 2 * (geluReference(x) - expected.velocity[i]!) / PER_SAMPLE * scale * derivative;
  });
  for (const target of await targets()) {
    const actual = await run(target);
    assert.ok(relativeL2(actual.noisy, expected.noisy) < 2e-7);
    assert.ok(relativeL2(actual.velocity, expected.velocity) < 2e-7);
    assert.ok(Math.abs(actual.loss - loss) < 1e-6 * loss, `${actual.loss}, expected ${loss}`);
    assert.ok(relativeL2(actual.gradient, gradient) < 2e-6);
    assert.ok(actual.gradient.subarray(2 * PER_SAMPLE).every((value) => value === 0));
  }
});
