import assert from "node:assert/strict";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { layerNorm, type LayerNormShape, rmsNorm, rowNormFamilies } from "../../../kernels/norm/layer.ts";
import { layerNormColumnsFamily, layerNormParameters } from "../../../kernels/norm/layer_parameters.ts";
import { numbers, relativeL2, runLaunch, runWork, stored } from "../run.ts";
import type { Family, Variant } from "../../../kernels/core/variants.ts";
import { modulatedShape } from "../shapes.ts";
import { targets } from "../targets.ts";
import { everyVariant } from "../variants.ts";

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

/** Every way to compute a norm: octets with and without subgroup operations, and workgroups where there are some. */
async function ways(): Promise<{ readonly way: string; readonly target: Target }[]> {
  const all = await targets();
  return [
    ...all.map((target) => ({ way: "octets", target })),
    ...all.filter(({ subgroups }) => subgroups > 0).flatMap((target) =>
      ["wide", "wide 1 row"].map((way) => ({ way, target }))
    ),
  ];
}

function named<Spec, Shape>({ variants }: Family<Spec, Shape>, way: string): Variant<Spec, Shape> {
  return variants.find(({ name }) => name === way)!;
}

/** y of an unmodulated norm in f32. */
async function normalised({ shape, x, gamma, beta }: Case, way: string, target: Target): Promise<Float32Array> {
  const work = named(rowNormFamilies.layerNorm, way).work(target, PLAIN, shape);
  return (await runWork(work, { x, gamma, beta, y: x.length, stats: shape.rows * 4 })).y!;
}

const PLAIN = { x: "f32", y: "f32", param: "f32", modulated: false } as const;

const shapes: [batch: number, sequence: number, textRows: number, width: number][] = [
  [2, 11, 3, 132],
  [1, 7, 0, 4],
  [3, 5, 5, 36],
];

/** Ends inside the second vector of a workgroup's threads. */
const WIDE_ROWS: typeof shapes = [[1, 6, 2, 1204]];

for (const dtype of ["f32", "f16", "bf16"] as const) {
  Deno.test(`layer norm forward and input gradient match float64 (${dtype})`, async () => {
    for (const { target, way } of await ways()) {
      for (const modulated of [true, false]) {
        for (const [batch, sequence, textRows, width] of [...shapes, ...(dtype === "f32" ? WIDE_ROWS : [])]) {
          const data = makeCase(dtype, batch, sequence, textRows, width);
          const { shape, x, gamma, beta, g, modulation } = data;
          const expected = reference(data, modulated);
          const spec = { x: dtype, y: dtype, param: dtype, modulated };
          const weights = { x, gamma, beta, modulation };
          const forward = named(rowNormFamilies.layerNorm, way).work(target, spec, shape);
          const { y, stats } = await runWork(forward, { ...weights, y: x.length, stats: shape.rows * 4 });
          assert.ok(relativeL2(y!, expected.y) < TOLERANCE[dtype]);
          assert.ok(relativeL2(stats!, expected.stats) < 1e-6);
          const before = stored(numbers(x.length, 9), dtype);
          for (const accumulate of [false, true]) {
            const spec = { x: dtype, g: dtype, dx: dtype, param: dtype, modulated, accumulate };
            const backward = named(rowNormFamilies.layerNormBackward, way).work(target, spec, shape);
            const { dx } = await runWork(backward, {
              ...weights,
              stats: stats! as Float32Array<ArrayBuffer>,
              g,
              dx: before,
            });
            const wanted = accumulate ? expected.dx.map((v, i) => v + before[i]!) : expected.dx;
            assert.ok(relativeL2(dx!, wanted) < 2 * TOLERANCE[dtype]);
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
    const given = { x, stats, g, out: 2 * 4 * 36 };
    const found = await everyVariant(layerNormColumnsFamily, { x: "f32", g: "f32" }, shape, given);
    assert.deepEqual(found[0].results.out, found[1]!.results.out, "rows that are loaded ahead are added in order");
    for (const { name, results: { out: sums } } of found) {
      const start = numbers(36, 8);
      const launch = layerNormParameters({ param: "f32", modulated }, shape);
      const extra = modulated ? [gamma, beta, modulation, modulation.length] : [];
      const results = await runLaunch(launch, [sums!, start, start, ...extra]);
      assert.ok(relativeL2(results[1]!, expected.dGamma.map((v, i) => v + start[i]!)) < 2e-6, name);
      assert.ok(relativeL2(results[2]!, expected.dBeta.map((v, i) => v + start[i]!)) < 2e-6, name);
      if (modulated) assert.ok(relativeL2(results[6]!, expected.dModulation) < 2e-6, name);
    }
  }
});

Deno.test("a norm without text rows may give both segments the same modulation chunks", async () => {
  const data = makeCase("f32", 2, 9, 0, 20);
  const shape = { ...data.shape, shiftText: 0, scaleText: 20 };
  const expected = reference({ ...data, shape }, true);
  const given = { x: data.x, stats: Float32Array.from(expected.stats), g: data.g, out: 2 * 4 * 20 };
  const [first] = await everyVariant(layerNormColumnsFamily, { x: "f32", g: "f32" }, shape, given);
  const sums = first.results.out!;
  const launch = layerNormParameters({ param: "f32", modulated: true }, shape);
  const { gamma, beta, modulation } = data;
  const results = await runLaunch(launch, [sums, 20, 20, gamma, beta, modulation, modulation.length]);
  assert.ok(relativeL2(results[6]!, expected.dModulation) < 2e-6);
});

Deno.test("layer norm keeps its precision on values near 10000 that differ by 1", async () => {
  for (const { way, target } of await ways()) {
    const data = makeCase("f32", 1, 6, 2, 256);
    for (let i = 0; i < data.x.length; i++) data.x[i] = 10000 + 2 * data.x[i]!;
    const expected = reference(data, false);
    const y = await normalised(data, way, target);
    // The mean itself is known to 5e-4 of the spread: half a unit in the last place of 10000.
    assert.ok(relativeL2(y, expected.y) < 2e-3);
  }
});

Deno.test("layer norm of 1e4-size values and of a constant row is finite and right", async () => {
  for (const { way, target } of await ways()) {
    const data = makeCase("f32", 1, 2, 0, 64);
    for (let i = 0; i < 64; i++) data.x[i] = 3e4 * data.x[i]!;
    data.x.fill(-1234.5, 64);
    const expected = reference(data, false);
    const y = await normalised(data, way, target);
    assert.ok(relativeL2(y, expected.y) < 2e-6);
  }
});

Deno.test("rms norm matches float64", async () => {
  for (const { way, target } of await ways()) {
    for (const dtype of ["f32", "bf16"] as const) {
      const [rows, width] = [13, 44];
      const x = stored(numbers(rows * width, 1), dtype);
      const gamma = stored(numbers(width, 2).map((v) => 1 + v), dtype);
      const expected = Float64Array.from(x, (v, i) => {
        const row = x.subarray(i - i % width, i - i % width + width);
        const mean = row.reduce((sum, value) => sum + value * value, 0) / width;
        return v / Math.sqrt(mean + 1e-6) * gamma[i % width]!;
      });
      const problem = rmsNorm(target, { x: dtype, y: dtype, param: dtype }, { rows, width, eps: 1e-6 });
      const { y } = await runWork(problem.launches[0]!.launch.problem!.work(way), { x, gamma, y: x.length });
      assert.ok(relativeL2(y!, expected) < TOLERANCE[dtype]);
    }
  }
});

Deno.test("octets give the same bits with and without subgroup operations, and workgroups run after run and by rows", async () => {
  const data = makeCase("f32", 2, 11, 3, 132);
  const { shape, x, gamma, beta, g, modulation } = data;
  const outputs = new Map<string, (Float32Array | undefined)[][]>();
  const all = await ways();
  for (const { way, target } of [...all, ...all]) {
    const forward = named(rowNormFamilies.layerNorm, way).work(target, { ...PLAIN, modulated: true }, shape);
    const { y, stats } = await runWork(forward, { x, gamma, beta, modulation, y: x.length, stats: shape.rows * 4 });
    const spec = { x: "f32", g: "f32", dx: "f32", param: "f32", modulated: true, accumulate: false } as const;
    const backward = named(rowNormFamilies.layerNormBackward, way).work(target, spec, shape);
    const given = { x, gamma, g, modulation, stats: stats! as Float32Array<ArrayBuffer>, dx: x.length };
    outputs.set(way, [...outputs.get(way) ?? [], [y, stats, (await runWork(backward, given)).dx]]);
  }
  for (const [first, ...rest] of outputs.values()) for (const output of rest) assert.deepEqual(output, first);
  assert.deepEqual(outputs.get("wide 1 row"), outputs.get("wide"));
});

Deno.test("cards run norms of the models' rows by workgroups, software drivers and short rows by octets", () => {
  const chosen = (subgroups: number, width: number) => {
    const shape = modulatedShape({ rows: 8, sequence: 8, textRows: 0 }, width);
    return layerNorm(plainTarget(subgroups), PLAIN, shape).launches[0]!.launch.problem!.chosen;
  };
  assert.deepEqual([0, 8, 16, 32].map((subgroups) => chosen(subgroups, 1920)), ["octets", "octets", "wide", "wide"]);
  assert.deepEqual([128, 3072, 8192].map((width) => chosen(32, width)), ["octets", "wide", "octets"]);
});
