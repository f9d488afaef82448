import assert from "node:assert/strict";
import {
  prodigyDistance,
  prodigyDistanceStart,
  prodigyMoments,
  prodigySlots,
  prodigyState,
  prodigyUpdate,
} from "../../../kernels/optimizer/prodigy.ts";
import type { Target } from "../../../kernels/core/kernel.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { optimizerRuns, settingsOf } from "../../optim/stored.ts";
import { caseName, referencePath } from "../../reference.ts";
import { flatTensors } from "./files.ts";
import { numbers, relativeL2, runLaunch } from "../run.ts";
import { targets } from "../targets.ts";

type Values = Float32Array<ArrayBuffer>;
const BETAS = { beta1: 0.9, beta2: 0.95 };
const KEEP = Float32Array.of(0, 1, 0, 0);

/** What Prodigy keeps for one flat buffer. */
interface State {
  p: Values;
  offset: Values;
  m: Values;
  v: Values;
  s: Values;
  distance: Values;
}

function startState(p: Values): State {
  const zeros = () => new Float32Array(p.length);
  return { p, offset: zeros(), m: zeros(), v: zeros(), s: zeros(), distance: prodigyDistanceStart() };
}

const PLAIN = { ...BETAS, beta3: 0.98, eps: 1e-8, weightDecay: 1e-4, decouple: false, safeguard: false };
type Options = typeof PLAIN;

async function takeStep(
  target: Target,
  options: Options,
  old: State,
  gradients: Values,
  state: Values,
  control: Values,
): Promise<State> {
  const { decouple, safeguard, ...numbers } = options;
  const spec = { gradients: "f32", copy: "none", decouple, safeguard } as const;
  const shape = { elements: old.p.length, ...numbers };
  const slots = prodigySlots(old.p.length);
  const first = prodigyMoments(target, spec, { ...shape, slot: 0 });
  const moved = await runLaunch(
    first,
    [old.p, gradients, old.offset, old.m, old.v, old.s, state, control, old.distance, slots * 4],
  );
  const [m, v, s, partials] = [moved[3]!, moved[4]!, moved[5]!, moved[9]!];
  const second = prodigyDistance(target, { slots, beta3: options.beta3 });
  const distance = (await runLaunch(second, [partials, state, control, old.distance]))[3]!;
  const [p, offset] = await runLaunch(prodigyUpdate(spec, shape), [old.p, old.offset, m, v, distance, control]);
  return { p: p!, offset: offset!, m, v, s, distance };
}

for (const stored of optimizerRuns("prodigy")) {
  Deno.test(`steps of ${caseName(stored)} follow the library, distance and moves included`, async () => {
    const [target] = await targets();
    using file = openSafetensors(referencePath(stored.file));
    const { betas: [beta1, beta2], beta3, eps, weight_decay: weightDecay, steps, ...switches } = settingsOf(stored);
    const { decouple = false, safeguard_warmup: safeguard = false, use_bias_correction = false } = switches;
    const options = { beta1, beta2, beta3, eps: eps as number, weightDecay, decouple, safeguard };
    const start = flatTensors(file, "param0");
    const distances = file.readF32("d");
    const learningRates = file.readF32("lr");
    let state = startState(start);
    for (let step = 0; step < steps; step++) {
      const uploaded = prodigyState({
        learningRate: learningRates[step]!,
        beta1,
        beta2,
        step: step + 1,
        lossScale: 1,
        biasCorrection: use_bias_correction,
      });
      state = await takeStep(target!, options, state, flatTensors(file, "grads", step), uploaded, KEEP);
      const expected = flatTensors(file, "params", step);
      assert.ok(relativeL2(state.p, expected) < 1e-6);
      assert.ok(Math.abs(state.distance[0]! - distances[step]!) < 2e-6 * distances[step]!);
    }
  });
}

/** Prodigy with the recipe's options in float64. */
function reference(start: Values, gradients: readonly Values[]) {
  const p = Float64Array.from(start);
  const [m, v, s] = [new Float64Array(p.length), new Float64Array(p.length), new Float64Array(p.length)];
  const d0 = 1e-6;
  let d = d0;
  let numerator = 0;
  for (const gradient of gradients) {
    const rate = d;
    let delta = 0;
    let denominator = 0;
    p.forEach((value, i) => {
      const g = gradient[i]! + 1e-4 * value;
      delta += d / d0 * rate * g * (start[i]! - value);
      m[i] = 0.9 * m[i]! + d * 0.1 * g;
      v[i] = 0.95 * v[i]! + d * d * 0.05 * g * g;
      s[i] = 0.98 * s[i]! + d / d0 * rate * g;
      denominator += Math.abs(s[i]!);
    });
    numerator = 0.98 * numerator + delta;
    d = Math.max(d, numerator / denominator);
    for (let i = 0; i < p.length; i++) p[i]! -= rate * m[i]! / (Math.sqrt(v[i]!) + d * 1e-8);
  }
  return { p, d };
}

Deno.test("prodigy's distance grows by orders of magnitude as in float64", async () => {
  for (const target of await targets()) {
    const start = numbers(5000, 1);
    // A quadratic bowl around another point: its gradients point the same way until the distance is found.
    const goal = numbers(5000, 2);
    let state = startState(start);
    const gradients: Values[] = [];
    const uploaded = prodigyState({ learningRate: 1, ...BETAS, step: 1, lossScale: 1, biasCorrection: false });
    for (let step = 0; step < 30; step++) {
      gradients.push(state.p.map((value, i) => value - goal[i]!));
      state = await takeStep(target, PLAIN, state, gradients[step]!, uploaded, KEEP);
    }
    const { p, d } = reference(start, gradients);
    assert.ok(d > 1e-5);
    assert.ok(Math.abs(state.distance[0]! - d) < 1e-5 * d);
    const moved = (values: ArrayLike<number>) => start.map((value, i) => value - values[i]!);
    assert.ok(relativeL2(state.offset, Float64Array.from(p, (value, i) => start[i]! - value)) < 1e-4);
    assert.ok(relativeL2(moved(state.p), moved(p)) < 5e-2);
  }
});

Deno.test("prodigy stands still at learning rate 0 and on a skipped step", async () => {
  const [target] = await targets();
  const start = numbers(40, 1);
  const base = { ...BETAS, step: 1, lossScale: 1, biasCorrection: false };
  const skip = Float32Array.of(NaN, NaN, 1, NaN);
  for (const [learningRate, control, fill] of [[0, KEEP, 1], [1, skip, NaN]] as const) {
    const before = startState(start);
    const gradients = new Float32Array(40).fill(fill);
    const after = await takeStep(
      target!,
      PLAIN,
      before,
      gradients,
      prodigyState({ ...base, learningRate }),
      control,
    );
    assert.deepEqual(after, before);
  }
});
