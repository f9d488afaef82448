import assert from "node:assert/strict";
import { headNorm, headNormFamilies } from "../../../kernels/norm/head.ts";
import { headColumnsFamily, headNormColumns } from "../../../kernels/norm/head_parameters.ts";
import type { HeadNormShape } from "../../../kernels/norm/head_text.ts";
import { plainTarget } from "../../../kernels/core/kernel.ts";
import { numbers, relativeL2, runWork, stored } from "../run.ts";
import { targets } from "../targets.ts";
import { everyVariant } from "../variants.ts";

interface Tables {
  readonly cos: Float32Array<ArrayBuffer>;
  readonly sin: Float32Array<ArrayBuffer>;
}

function makeTables({ sequence, textRows }: HeadNormShape): Tables {
  const angles = numbers((sequence - textRows) * 32, 7).map((v) => 12 * v);
  return { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

/** Rotates the pairs of one head of a video row by +angle or, backwards, by -angle. */
function rotated(v: Float64Array, table: Tables | undefined, videoRow: number, direction: 1 | -1): Float64Array {
  if (table === undefined || videoRow < 0) return v;
  return v.map((value, c) => {
    const k = videoRow * 32 + (c >> 1);
    const sign = (c % 2 === 0 ? -1 : 1) * direction;
    return value * table.cos[k]! + sign * v[c ^ 1]! * table.sin[k]!;
  });
}

function reference(
  shape: HeadNormShape,
  x: Float32Array,
  gamma: Float32Array,
  beta: Float32Array,
  g: Float32Array,
  table: Tables | undefined,
) {
  const { rows, sequence, textRows, heads, eps } = shape;
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const dGamma = new Float64Array(64);
  const dBeta = new Float64Array(64);
  for (let unit = 0; unit < rows * heads; unit++) {
    const videoRow = Math.floor(unit / heads) % sequence - textRows;
    const v = Float64Array.from(x.subarray(unit * 64, unit * 64 + 64));
    const mean = v.reduce((sum, value) => sum + value, 0) / 64;
    const rs = 1 / Math.sqrt(v.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 64 + eps);
    const xhat = v.map((value) => (value - mean) * rs);
    y.set(rotated(xhat.map((value, c) => value * gamma[c]! + beta[c]!), table, videoRow, 1), unit * 64);
    const back = rotated(Float64Array.from(g.subarray(unit * 64, unit * 64 + 64)), table, videoRow, -1);
    const gw = back.map((value, c) => value * gamma[c]!);
    const meanGw = gw.reduce((sum, value) => sum + value, 0) / 64;
    const meanGwx = gw.reduce((sum, value, c) => sum + value * xhat[c]!, 0) / 64;
    for (let c = 0; c < 64; c++) {
      dx[unit * 64 + c] = rs * (gw[c]! - meanGw - xhat[c]! * meanGwx);
      dGamma[c]! += back[c]! * xhat[c]!;
      dBeta[c]! += back[c]!;
    }
  }
  return { y, dx, dGamma, dBeta };
}

const TOLERANCE = { f32: 2e-6, f16: 1e-3, bf16: 6e-3 };

for (const dtype of ["f32", "f16", "bf16"] as const) {
  Deno.test(`head norm with rotation, and its gradients, match float64 (${dtype})`, async () => {
    for (const target of await targets()) {
      for (const rotate of [true, false]) {
        const shape = { rows: 2 * 21, sequence: 21, textRows: 4, heads: 3, eps: 1e-6 };
        const size = shape.rows * shape.heads * 64;
        const x = stored(numbers(size, 1), dtype);
        const g = stored(numbers(size, 2), dtype);
        const gamma = stored(numbers(64, 3).map((v) => 1 + v), dtype);
        const beta = stored(numbers(64, 4), dtype);
        const table = rotate ? makeTables(shape) : undefined;
        const tables = table === undefined ? {} : { cosines: table.cos, sines: table.sin };
        const expected = reference(shape, x, gamma, beta, g, table);
        const spec = { dtype, param: dtype, rotate };
        const given = { x, gamma, beta, g, ...tables };
        const [first, ...others] = headNormFamilies.forward.variants;
        const { y } = await runWork(first!.work(target, spec, shape), { ...given, y: size });
        assert.ok(relativeL2(y!, expected.y) < TOLERANCE[dtype]);
        for (const { work } of others) {
          assert.deepEqual((await runWork(work(target, spec, shape), { ...given, y: size })).y, y);
        }
        const [firstBack, ...othersBack] = headNormFamilies.backward.variants;
        const { dx } = await runWork(firstBack!.work(target, spec, shape), { ...given, dx: size });
        assert.ok(relativeL2(dx!, expected.dx) < TOLERANCE[dtype]);
        for (const { work } of othersBack) {
          assert.deepEqual((await runWork(work(target, spec, shape), { ...given, dx: size })).dx, dx);
        }
        const start = numbers(64, 5);
        const sums = { x, g, d_gamma: start, d_beta: start, ...tables };
        for (const { name, results } of await everyVariant(headColumnsFamily, { dtype, rotate }, shape, sums, target)) {
          assert.ok(results.partials!.length > 128, "several parts");
          assert.ok(relativeL2(results.d_gamma!, expected.dGamma.map((v, i) => v + start[i]!)) < 2e-6, name);
          assert.ok(relativeL2(results.d_beta!, expected.dBeta.map((v, i) => v + start[i]!)) < 2e-6, name);
        }
      }
    }
  });
}

Deno.test("head norm of a constant head gives beta, and of large values stays exact", async () => {
  for (const target of await targets()) {
    const shape = { rows: 3, sequence: 3, textRows: 0, heads: 1, eps: 1e-6 };
    const x = numbers(3 * 64, 1).map((v, i) => (i < 64 ? 777 : i < 128 ? 3e4 * v : 1e-4 * v));
    const gamma = numbers(64, 2);
    const beta = numbers(64, 3);
    const expected = reference(shape, x, gamma, beta, x, undefined);
    const work = headNorm(target, { dtype: "f32", param: "f32", rotate: false }, shape);
    const { y } = await runWork(work, { x, gamma, beta, y: x.length });
    assert.ok(relativeL2(y!, expected.y) < 2e-6);
  }
});

Deno.test("cards give every head of few rows to lanes of its own, all others walk the heads of a row", () => {
  const chosen = (subgroups: number, rows: number) => {
    const shape = { rows, sequence: rows, textRows: 0, heads: 2, eps: 1e-6 };
    const spec = { dtype: "f32", param: "f32", rotate: false } as const;
    return headNorm(plainTarget(subgroups), spec, shape).launches[0]!.launch.problem!.chosen;
  };
  assert.deepEqual([chosen(8, 3), chosen(32, 3), chosen(32, 17776)], ["rows", "heads", "rows"]);
});

Deno.test("gradients of gamma and beta of more heads and rows than parts have match float64, and cards share out heads", async () => {
  const spec = { dtype: "f32", rotate: false } as const;
  const shape = { rows: 1100, sequence: 1100, textRows: 7, heads: 5, eps: 1e-6 };
  const size = shape.rows * shape.heads * 64;
  const [x, g] = [numbers(size, 1), numbers(size, 2)];
  const expected = reference(shape, x, new Float32Array(64), new Float32Array(64), g, undefined);
  const found = await everyVariant(headColumnsFamily, spec, shape, { x, g, d_gamma: 64, d_beta: 64 });
  for (const { name, results } of found) {
    assert.ok(relativeL2(results.d_gamma!, expected.dGamma) < 2e-6, name);
    assert.ok(relativeL2(results.d_beta!, expected.dBeta) < 2e-6, name);
  }
  // 69 parts of 16 rows, with every head apart 345: more than the 64 threads of the second stage.
  assert.deepEqual(found.map(({ results }) => results.partials!.length / 128), [69, 345]);
  const clip = { rows: 17776, sequence: 17776, textRows: 226, heads: 48, eps: 1e-6 };
  const parts = (subgroups: number) => headNormColumns(plainTarget(subgroups), spec, clip).scratch!.partials! / 128;
  // 1111 parts of 16 rows; 16,384 groups are 15 times as many, which four heads of 48 for each come nearest to.
  assert.deepEqual([8, 32].map(parts), [1111, 12 * 1111]);
});

Deno.test("heads that groups of lanes share out unevenly are all counted once", async () => {
  const spec = { dtype: "f32", rotate: false } as const;
  // 349 parts: 16,384 groups would have 47, so each takes two of 47 heads, and the last of a part one.
  const shape = { rows: 349 * 16, sequence: 349 * 16, textRows: 0, heads: 47, eps: 1e-6 };
  const size = shape.rows * shape.heads * 64;
  const x = numbers(size, 1);
  const g = x.map((v) => 1 + v);
  const [rows, heads] = await everyVariant(headColumnsFamily, spec, shape, { x, g, d_gamma: 64, d_beta: 64 });
  assert.equal(heads!.results.partials!.length / 128, 24 * 349);
  // Gradients around 1 add up to about their number; a head too few or too many would be 2 % off.
  for (const sum of rows.results.d_beta!) assert.ok(Math.abs(sum / (349 * 16 * 47) - 1) < 1e-2);
  assert.ok(relativeL2(heads!.results.d_beta!, rows.results.d_beta!) < 1e-4);
  assert.ok(relativeL2(heads!.results.d_gamma!, rows.results.d_gamma!) < 1e-4);
});
