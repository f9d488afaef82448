import assert from "node:assert/strict";
import type { DType } from "../../../kernels/core/kernel.ts";
import { layerNorm, layerNormBackward, type LayerNormShape, rmsNorm } from "../../../kernels/norm/layer.ts";
import {
  layerNormColumns,
  layerNormParameters,
  layerNormPartials,
  layerNormSums,
} from "../../../kernels/norm/layer_parameters.ts";
import { numbers, relativeL2, runLaunch, stored } from "../run.ts";
import { modulatedShape } from "../shapes.ts";
import { targets } from "../targets.ts";

const TOLERANCE: Record<DType, number> = { f32: 3e-6, f16: 1e-3, bf16: 6e-3, u32: 0 };

interface Case {
  shape: LayerNormShape;
  x: Float32Array<ArrayBuffer>;
  gamma: Float32Array<ArrayBuffer>;
  beta: Float32Array<ArrayBuffer>;
  g: Float32Array<ArrayBuffer>;
  modulation: Float32Array<ArrayBuffer>;
}

function makeCase(dtype: DType, batch: number, sequence: number, textRows: number, width: number): Case {
  const rows = batch * sequence;
  const shape = modulatedShape({ rows, sequence, textRows }, width);
  return {
    shape,
    x: stored(numbers(rows * width, 1), dtype),
    gamma: stored(numbers(width, 2).map((v) => 1 + v), dtype),
    beta: stored(numbers(width, 3), dtype),
    g: stored(numbers(rows * width, 4), dtype),
    modulation: numbers(batch * 6 * width, 5),
  };
}

/** Layer norm with modulation and all its gradients in float64, straight from the formulas. */
function reference({ shape, x, gamma, beta, g, modulation }: Case, modulated: boolean) {
  const { rows, sequence, textRows, width, eps, modulationStride } = shape;
  const y = new Float64Array(rows * width);
  const dx = new Float64Array(rows * width);
  const stats = new Float64Array(rows * 4);
  const dGamma = new Float64Array(width);
  const dBeta = new Float64Array(width);
  const dModulation = new Float64Array(modulation.length);
  for (let r = 0; r < rows; r++) {
    const at = r * width;
    const base = Math.floor(r / sequence) * modulationStride;
    const text = r % sequence < textRows;
    const shiftAt = base + (text ? shape.shiftText : shape.shiftVideo);
    const scaleAt = base + (text ? shape.scaleText : shape.scaleVideo);
    let mean = 0;
    for (let c = 0; c < width; c++) mean += x[at + c]! / width;
    let variance = 0;
    for (let c = 0; c < width; c++) variance += (x[at + c]! - mean) ** 2 / width;
    const rs = 1 / Math.sqrt(variance + eps);
    stats.set([mean, rs], r * 4);
    let meanGw = 0;
    let meanGwx = 0;
    for (let c = 0; c < width; c++) {
      const xhat = (x[at + c]! - mean) * rs;
      const n = xhat * gamma[c]! + beta[c]!;
      const scale = modulated ? 1 + modulation[scaleAt + c]! : 1;
      y[at + c] = n * scale + (modulated ? modulation[shiftAt + c]! : 0);
      const gn = g[at + c]! * scale;
      dGamma[c]! += gn * xhat;
      dBeta[c]! += gn;
      dModulation[shiftAt + c]! += g[at + c]!;
      dModulation[scaleAt + c]! += g[at + c]! * n;
      meanGw += gn * gamma[c]! / width;
      meanGwx += gn * gamma[c]! * xhat / width;
    }
    for (let c = 0; c < width; c++) {
      const xhat = (x[at + c]! - mean) * rs;
      const scale = modulated ? 1 + modulation[scaleAt + c]! : 1;
      dx[at + c] = rs * (g[at + c]! * scale * gamma[c]! - meanGw - xhat * meanGwx);
    }
  }
  return { y, dx, stats, dGamma, dBeta, dModulation };
}

const shapes: [batch: number, sequence: number, textRows: number, width: number][] = [
  [2, 11, 3, 132],
  [1, 7, 0, 4],
  [3, 5, 5, 36],
];

for (const dtype of ["f32", "f16", "bf16"] as const) {
  Deno.test(`layer norm forward and input gradient match float64 (${dtype})`, async () => {
    for (const target of await targets()) {
      for (const modulated of [true, false]) {
        for (const [batch, sequence, textRows, width] of shapes) {
          const data = makeCase(dtype, batch, sequence, textRows, width);
          const { shape, x, gamma, beta, g, modulation } = data;
          const expected = reference(data, modulated);
          const extra = modulated ? [modulation] : [];
          const spec = { x: dtype, y: dtype, param: dtype, modulated };
          const launch = layerNorm(target, spec, shape);
          const [, , , y, stats] = await runLaunch(launch, [x, gamma, beta, x.length, shape.rows * 4, ...extra]);
          assert.ok(relativeL2(y!, expected.y) < TOLERANCE[dtype]);
          assert.ok(relativeL2(stats!, expected.stats) < 1e-6);
          const before = stored(numbers(x.length, 9), dtype);
          for (const accumulate of [false, true]) {
            const back = layerNormBackward(
              target,
              { x: dtype, g: dtype, dx: dtype, param: dtype, modulated, accumulate },
              shape,
            );
            const results = await runLaunch(back, [x, stats!, gamma, g, before, ...extra]);
            const wanted = accumulate ? expected.dx.map((v, i) => v + before[i]!) : expected.dx;
            assert.ok(relativeL2(results[4]!, wanted) < 2 * TOLERANCE[dtype]);
          }
        }
      }
    }
  });
}

Deno.test("layer norm parameter and modulation gradients match float64", async () => {
  for (const modulated of [true, false]) {
    const data = makeCase("f32", 2, 75, 18, 36);
    const { shape, x, gamma, beta, g, modulation } = data;
    const expected = reference(data, modulated);
    const stats = Float32Array.from(expected.stats);
    const columns = layerNormColumns({ x: "f32", g: "f32" }, shape);
    const [, , , partials] = await runLaunch(columns, [x, stats, g, layerNormPartials(shape)]);
    const [, sums] = await runLaunch(layerNormSums(shape), [partials!, 2 * 4 * 36]);
    const start = numbers(36, 8);
    const launch = layerNormParameters({ param: "f32", modulated }, shape);
    const extra = modulated ? [gamma, beta, modulation, modulation.length] : [];
    const results = await runLaunch(launch, [sums!, start, start, ...extra]);
    assert.ok(relativeL2(results[1]!, expected.dGamma.map((v, i) => v + start[i]!)) < 2e-6);
    assert.ok(relativeL2(results[2]!, expected.dBeta.map((v, i) => v + start[i]!)) < 2e-6);
    if (modulated) assert.ok(relativeL2(results[6]!, expected.dModulation) < 2e-6);
  }
});

Deno.test("a norm without text rows may give both segments the same modulation chunks", async () => {
  const data = makeCase("f32", 2, 9, 0, 20);
  const shape = { ...data.shape, shiftText: 0, scaleText: 20 };
  const expected = reference({ ...data, shape }, true);
  const columns = layerNormColumns({ x: "f32", g: "f32" }, shape);
  const stats = Float32Array.from(expected.stats);
  const [, , , partials] = await runLaunch(columns, [data.x, stats, data.g, layerNormPartials(shape)]);
  const [, sums] = await runLaunch(layerNormSums(shape), [partials!, 2 * 4 * 20]);
  const launch = layerNormParameters({ param: "f32", modulated: true }, shape);
  const { gamma, beta, modulation } = data;
  const results = await runLaunch(launch, [sums!, 20, 20, gamma, beta, modulation, modulation.length]);
  assert.ok(relativeL2(results[6]!, expected.dModulation) < 2e-6);
});

Deno.test("layer norm keeps its precision on values near 10000 that differ by 1", async () => {
  for (const target of await targets()) {
    const data = makeCase("f32", 1, 6, 2, 256);
    for (let i = 0; i < data.x.length; i++) data.x[i] = 10000 + 2 * data.x[i]!;
    const expected = reference(data, false);
    const launch = layerNorm(target, { x: "f32", y: "f32", param: "f32", modulated: false }, data.shape);
    const [, , , y] = await runLaunch(launch, [data.x, data.gamma, data.beta, data.x.length, 6 * 4]);
    // The mean itself is known to 5e-4 of the spread: half a unit in the last place of 10000.
    assert.ok(relativeL2(y!, expected.y) < 2e-3);
  }
});

Deno.test("layer norm of 1e4-size values and of a constant row is finite and right", async () => {
  for (const target of await targets()) {
    const data = makeCase("f32", 1, 2, 0, 64);
    for (let i = 0; i < 64; i++) data.x[i] = 3e4 * data.x[i]!;
    data.x.fill(-1234.5, 64);
    const expected = reference(data, false);
    const launch = layerNorm(target, { x: "f32", y: "f32", param: "f32", modulated: false }, data.shape);
    const [, , , y] = await runLaunch(launch, [data.x, data.gamma, data.beta, data.x.length, 2 * 4]);
    assert.ok(relativeL2(y!, expected.y) < 2e-6);
  }
});

Deno.test("rms norm matches float64", async () => {
  for (const target of await targets()) {
    for (const dtype of ["f32", "bf16"] as const) {
      const [rows, width] = [13, 44];
      const x = stored(numbers(rows * width, 1), dtype);
      const gamma = stored(numbers(width, 2).map((v) => 1 + v), dtype);
      const expected = Float64Array.from(x, (v, i) => {
        const row = x.subarray(i - i % width, i - i % width + width);
        const mean = row.reduce((sum, value) => sum + value * value, 0) / width;
        return v / Math.sqrt(mean + 1e-6) * gamma[i % width]!;
      });
      const launch = rmsNorm(target, { x: dtype, y: dtype, param: dtype }, { rows, width, eps: 1e-6 });
      const [, , y] = await runLaunch(launch, [x, gamma, x.length]);
      assert.ok(relativeL2(y!, expected) < TOLERANCE[dtype]);
    }
  }
});

Deno.test("with and without subgroup operations layer norm gives the same bits", async () => {
  const data = makeCase("f32", 2, 11, 3, 132);
  const { shape, x, gamma, beta, g, modulation } = data;
  const outputs: Float32Array[][] = [];
  for (const target of await targets()) {
    const launch = layerNorm(target, { x: "f32", y: "f32", param: "f32", modulated: true }, shape);
    const [, , , y, stats] = await runLaunch(launch, [x, gamma, beta, x.length, shape.rows * 4, modulation]);
    const spec = { x: "f32", g: "f32", dx: "f32", param: "f32", modulated: true, accumulate: false } as const;
    const back = await runLaunch(layerNormBackward(target, spec, shape), [x, stats!, gamma, g, x.length, modulation]);
    outputs.push([y!, stats!, back[4]!]);
  }
  for (const output of outputs) assert.deepEqual(output, outputs[0]);
});
