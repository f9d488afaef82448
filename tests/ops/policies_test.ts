/** Recording policies change memory and work, never a bit of the result. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { gelu } from "../../lib/ops/activation.ts";
import { attention } from "../../lib/ops/attention.ts";
import { gatedResidual } from "../../lib/ops/gated_residual.ts";
import { headNorm } from "../../lib/ops/head_norm.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { linear } from "../../lib/ops/linear.ts";
import { type CheckpointPolicy, Plan } from "../../lib/plan/plan.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { cost, finish, type Recording } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { backward, gradientOf, weightOf } from "./gradients.ts";

const [BATCH, WIDTH, BLOCKS] = [2, 128, 2];
const segments = { sequence: 7, textRows: 3 };

const SHAPES = {
  modulation: [6 * WIDTH, 12],
  gates: [2 * WIDTH, 12],
  gamma: [WIDTH],
  beta: [WIDTH],
  q: [WIDTH, WIDTH],
  k: [WIDTH, WIDTH],
  v: [WIDTH, WIDTH],
  headGamma: [64],
  headBeta: [64],
  out: [WIDTH, WIDTH],
  up: [20, WIDTH],
  down: [WIDTH, 20],
};
type Weights = Record<keyof typeof SHAPES, Tensor>;

function declare(block: number): Weights {
  const trained = (name: string, shape: readonly number[]) => {
    const gradient = new Tensor(`grad ${block}.${name}`, shape, "f32", { resident: true });
    return new Tensor(`${block}.${name}`, shape, "f32", { resident: true, gradient });
  };
  return Object.fromEntries(Object.entries(SHAPES).map(([name, shape]) => [name, trained(name, shape)])) as Weights;
}

/** Adaptive norm and attention, then a feed-forward, each behind a gate. */
function block(plan: Plan, x: Tensor, conditioning: Tensor, weights: Weights): Tensor {
  const { gamma, beta, headGamma, headBeta } = weights;
  const tensor = linear(plan, conditioning, { weight: weights.modulation });
  const chunks = { tensor, shiftVideo: 0, scaleVideo: 1, shiftText: 3, scaleText: 4 };
  const normalised = layerNorm(plan, x, { gamma, beta }, segments, 1e-5, chunks);
  const projected = (weight: Tensor) => linear(plan, normalised, { weight });
  const head = (weight: Tensor) =>
    headNorm(plan, projected(weight), { gamma: headGamma, beta: headBeta }, segments, 1e-6);
  const attended = attention(plan, head(weights.q), head(weights.k), projected(weights.v), WIDTH / 64);
  const branch = linear(plan, attended, { weight: weights.out });
  const middle = gatedResidual(plan, x, branch, { tensor, gateVideo: 2, gateText: 5 }, segments);
  const hidden = gelu(plan, linear(plan, middle, { weight: weights.up }));
  const gates = { tensor: linear(plan, conditioning, { weight: weights.gates }), gateVideo: 0, gateText: 1 };
  return gatedResidual(plan, middle, linear(plan, hidden, { weight: weights.down }), gates, segments);
}

interface Outcome {
  readonly recording: Recording;
  /** Steps before dead ones were dropped. */
  readonly recorded: number;
  readonly outputs: ReadonlySet<Tensor>;
  /** Output of the last block and every gradient, as bits. */
  readonly bits: ReadonlyMap<string, Uint32Array>;
}

async function run(checkpointing: CheckpointPolicy): Promise<Outcome> {
  const { device } = await testDevice();
  using session = new Session(device);
  const plan = new Plan({ target: device.target, checkpointing });
  const input = plan.resident("x", [BATCH, segments.sequence, WIDTH], "f32", { needsGrad: true });
  const conditioning = plan.resident("conditioning", [BATCH, 12], "f32");
  const weights = Array.from({ length: BLOCKS }, (_, i) => declare(i));
  let x = input;
  weights.forEach((each, i) => {
    x = plan.checkpoint(x, (inner) => plan.scope(`blocks.${i}`, () => block(plan, inner, conditioning, each)));
  });
  const loss = weightOf(x, 9);
  backward(plan, [[plan.output(x), loss]]);
  const parameters = weights.flatMap((each) => Object.values(each));
  const results = new Map([["output", x], ["input", plan.output(gradientOf(plan, input))]]);
  for (const { name, gradient } of parameters) results.set(name, gradient!);
  const recording = finish(plan, session.limits);
  using executable = new Executable(session, recording);
  for (const [i, tensor] of [input, conditioning, ...parameters].entries()) {
    session.write(tensor, numbers(tensor.size, i + 1));
  }
  session.write(loss.tensor, loss.values);
  await executable.run();
  const read = await executable.read([...results.values()]);
  return {
    recording,
    recorded: plan.steps.length,
    outputs: plan.outputs,
    bits: new Map([...results.keys()].map((name, i) => [name, new Uint32Array(read[i]!)])),
  };
}

/** Launches of one kernel family, with subgroup operations or plain. */
function launches({ steps }: Recording, family: string): number {
  const pattern = new RegExp(`^${family}(_plain)?\\(`);
  return steps.filter((step) => step.kind === "launch" && pattern.test(step.launch.kernel.key)).length;
}

Deno.test("checkpointing, kept attention and offloaded inputs leave every bit of a pass as it is", async () => {
  const plain = await run({ enabled: false, keep: [] });
  for (const [name, bits] of plain.bits) assert.ok(new Float32Array(bits.buffer).some((v) => v !== 0), name);
  const policies: CheckpointPolicy[] = [
    { enabled: true, keep: [] },
    { enabled: true, keep: ["attention"] },
    { enabled: true, keep: [], offload: true },
  ];
  for (const policy of policies) assert.deepEqual((await run(policy)).bits, plain.bits, JSON.stringify(policy));
});

Deno.test("checkpointing repeats what backward needs, and kept attention is not repeated", async () => {
  const off = await run({ enabled: false, keep: [] });
  const on = await run({ enabled: true, keep: [] });
  const kept = await run({ enabled: true, keep: ["attention"] });
  const count = (outcome: Outcome) => launches(outcome.recording, "attention_forward");
  assert.deepEqual([off, on, kept].map(count), [BLOCKS, 2 * BLOCKS, BLOCKS]);
  const arena = ({ recording }: Outcome) => cost(recording).arenaBytes;
  assert.ok(arena(on) < arena(off), `${arena(on)} bytes with checkpointing, ${arena(off)} without`);
});

Deno.test("launches that nothing needs are dropped, all others stay", async () => {
  const { recording, recorded, outputs } = await run({ enabled: true, keep: [] });
  assert.ok(recording.steps.length < recorded);
  // Each block ends in a gated residual whose repetition nobody reads; the one in its middle feeds the feed-forward.
  assert.equal(launches(recording, "gated_residual"), 3 * BLOCKS);
  recording.steps.forEach(({ writes }, i) => {
    const later = new Set(recording.steps.slice(i + 1).flatMap(({ tensors }) => tensors.map(({ owner }) => owner)));
    assert.ok(writes.some(({ owner }) => owner.resident || outputs.has(owner) || later.has(owner)), `step ${i}`);
  });
});

Deno.test("a result that nobody reads is not computed", () => {
  const plan = new Plan({ target: plainTarget(0) });
  const x = plan.resident("x", [3, 20], "f32");
  gelu(plan, gelu(plan, x));
  assert.equal(finish(plan, DISCRETE_LIMITS).steps.length, 0);
});
