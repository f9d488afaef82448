import assert from "node:assert/strict";
import type { Target } from "../../../kernels/core/kernel.ts";
import { adamFamily, adamState, clipControl } from "../../../kernels/optimizer/adam.ts";
import { squareSlots, sumOfSquares } from "../../../kernels/reduce/sums.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { optimizerOf, optimizerRuns, settingsOf } from "../../optim/stored.ts";
import { caseName, referenceCases, referencePath } from "../../reference.ts";
import { flatTensors } from "./files.ts";
import { numbers, relativeL2, rounded, runLaunch } from "../run.ts";
import { targets } from "../targets.ts";
import { everyVariant } from "../variants.ts";

const BETAS = { beta1: 0.9, beta2: 0.95 };
const KEEP = Float32Array.of(0, 1, 0, 0);

for (const stored of [...optimizerRuns("adam"), ...optimizerRuns("adamw")]) {
  Deno.test(`steps of ${caseName(stored)} follow PyTorch`, async () => {
    using file = openSafetensors(referencePath(stored.file));
    const { betas: [beta1, beta2], eps, weight_decay: weightDecay, steps } = settingsOf(stored);
    const learningRates = file.readF32("lr");
    let p = flatTensors(file, "param0");
    let m = new Float32Array(p.length);
    let v = new Float32Array(p.length);
    const { optimizer: kind } = optimizerOf(stored) as { optimizer: "adam" | "adamw" };
    const spec = { kind, gradients: "f32", copy: "none" } as const;
    const shape = { elements: p.length, beta1, beta2, eps: eps as number, weightDecay };
    for (let step = 0; step < steps; step++) {
      const state = adamState({ learningRate: learningRates[step]!, beta1, beta2, step: step + 1, lossScale: 1 });
      const gradients = flatTensors(file, "grads", step);
      const given = { parameters: p, gradients, moment1: m, moment2: v, state, control: KEEP };
      const [{ results }, ...others] = await everyVariant(adamFamily, spec, shape, given);
      [p, m, v] = [results.parameters!, results.moment1!, results.moment2!];
      for (const other of others) assert.deepEqual(other.results, results, other.name);
      assert.ok(relativeL2(p, flatTensors(file, "params", step)) < 1e-6);
    }
  });
}

Deno.test("gradient clipping follows PyTorch", async () => {
  const stored = referenceCases.get("optim/clip.safetensors")!;
  using file = openSafetensors(referencePath(stored.file));
  const maxNorm = stored.config.max_grad_norm as number;
  for (const target of await targets()) {
    for (let index = 0; file.tensors.has(`case${index}.norm`); index++) {
      const g = flatTensors(file, `case${index}.grad`);
      const partials = await squares(target, g);
      const state = Float32Array.of(0, 0, 0, 1);
      const launch = clipControl(target, { slots: partials.length / 4, maxNorm });
      const [, , , control] = await runLaunch(launch, [partials, 4, state, 4]);
      const norm = file.readF32(`case${index}.norm`)[0]!;
      assert.ok(Math.abs(control![0]! - norm) < 1e-6 * norm);
      assert.ok(relativeL2(g.map((v) => v * control![1]!), flatTensors(file, `case${index}.clipped`)) < 1e-6);
    }
  }
});

async function squares(target: Target, g: Float32Array<ArrayBuffer>) {
  const launch = sumOfSquares(target, { x: "f32" }, { elements: g.length, slot: 0 });
  return (await runLaunch(launch, [g, squareSlots(g.length) * 4]))[1]!;
}

Deno.test("loss scale is taken out of norm and gradient, and clipping can be off", async () => {
  for (const target of await targets()) {
    const g = numbers(6000, 1).map((v) => v * 1024);
    const partials = await squares(target, g);
    const state = Float32Array.of(0, 0, 0, 1 / 1024);
    const norm = Math.sqrt(g.reduce((sum, v) => sum + (v / 1024) ** 2, 0));
    for (const [maxNorm, coefficient] of [[0, 1], [0.5, 0.5 / (norm + 1e-6)], [1e9, 1]] as const) {
      const launch = clipControl(target, { slots: partials.length / 4, maxNorm });
      const [, , , control] = await runLaunch(launch, [partials, 4, state, 4]);
      assert.ok(Math.abs(control![0]! - norm) < 1e-6 * norm);
      assert.ok(Math.abs(control![1]! - coefficient / 1024) < 1e-6 * coefficient / 1024);
      assert.equal(control![2], 0);
    }
  }
});

Deno.test("a NaN or infinity in one gradient or in the loss sets the skip flag", async () => {
  for (const target of await targets()) {
    for (const [bad, loss] of [[NaN, 1], [Infinity, 1], [1e30, 1], [1, NaN], [1, -Infinity]] as const) {
      const g = numbers(600, 1);
      g[333] = bad;
      const partials = await squares(target, g);
      const launch = clipControl(target, { slots: partials.length / 4, maxNorm: 1 });
      const losses = Float32Array.of(loss, 0, 0, 0);
      const [, , , control] = await runLaunch(launch, [partials, losses, Float32Array.of(0, 0, 0, 1), 4]);
      assert.equal(control![2], 1);
    }
  }
});

Deno.test("a skipped step changes neither parameters nor moments, even with NaN gradients", async () => {
  const size = 1100;
  const [p, m, v] = [numbers(size, 1), numbers(size, 2), numbers(size, 3).map(Math.abs)];
  const g = new Float32Array(size).fill(NaN);
  const shape = { elements: size, ...BETAS, eps: 1e-8, weightDecay: 0.1 };
  const state = adamState({ learningRate: 1e-2, ...BETAS, step: 3, lossScale: 1 });
  const control = Float32Array.of(NaN, NaN, 1, NaN);
  const given = { parameters: p, gradients: g, moment1: m, moment2: v, state, control };
  const spec = { kind: "adamw", gradients: "f32", copy: "none" } as const;
  for (const { name, results } of await everyVariant(adamFamily, spec, shape, given)) {
    assert.deepEqual([results.parameters, results.moment1, results.moment2], [p, m, v], name);
  }
});

Deno.test("the working copy is the updated parameter rounded to its type", async () => {
  const size = 1100;
  const shape = { elements: size, ...BETAS, eps: 1e-8, weightDecay: 0 };
  const state = adamState({ learningRate: 1e-2, ...BETAS, step: 1, lossScale: 1 });
  for (const copy of ["bf16", "f16"] as const) {
    const [parameters, gradients] = [numbers(size, 1), numbers(size, 2)];
    const given = { parameters, gradients, moment1: size, moment2: size, state, control: KEEP, copy: size };
    const spec = { kind: "adamw", gradients: "f32", copy } as const;
    for (const { name, results } of await everyVariant(adamFamily, spec, shape, given)) {
      assert.deepEqual(results.copy, results.parameters!.map((value) => rounded(value, copy)), name);
    }
  }
});
