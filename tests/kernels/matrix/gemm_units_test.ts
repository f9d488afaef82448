import assert from "node:assert/strict";
import { gemm, gemmFamily } from "../../../kernels/matrix/gemm.ts";
import { gemmWork } from "../../../kernels/matrix/gemm_launch.ts";
import type { GemmShape, GemmSpec } from "../../../kernels/matrix/gemm_shape.ts";
import { unitsText } from "../../../kernels/matrix/gemm_units.ts";
import { UNIT_SIZES, unitBytes, type UnitTile, unitTile } from "../../../kernels/matrix/unit_tile.ts";
import { type DType, plainTarget, type Target, type Work } from "../../../kernels/core/kernel.ts";
import { gemmCases, gemmReference } from "./gemm_cases.ts";
import { lowered } from "../lower_units.ts";
import { numbers, relativeL2, runWork, stored, testDevice } from "../run.ts";
import { runsLowered, skippedWithoutUnits, smallTile } from "../small_units.ts";

const { device } = await testDevice();
const SMALL = smallTile(device.target);
const target: Target = { ...device.target, mixed: true };
const ignore = target.matrix.length === 0;
const skipped = skippedWithoutUnits(target);

function test(name: string, fn: () => Promise<void>, ignored = ignore): void {
  Deno.test({ name: name + skipped, ignore: ignored, fn });
}

/** For tests whose texts are those of other units or subgroups than the software driver's. */
const elsewhere = !runsLowered(device.target);

/** Relative L2 error of rounding operands to 11 bits, and of rounding C. Narrow operands are exact, so f32 sums remain. */
const ROUNDED_OPERANDS = 2 ** -10;
const STORED: Record<DType, number> = { f32: 5e-7, f16: 5e-4, bf16: 4e-3, u32: 0 };

function band({ a, b, c }: GemmSpec): number {
  return Math.max(a === "f32" || b === "f32" ? ROUNDED_OPERANDS : 0, STORED[c]);
}

interface Contents {
  readonly a: Float32Array<ArrayBuffer>;
  readonly b: Float32Array<ArrayBuffer>;
  readonly c: Float32Array<ArrayBuffer>;
  readonly bias?: Float32Array<ArrayBuffer>;
}

function contents(spec: GemmSpec, { m, n, k }: GemmShape): Contents {
  return {
    a: stored(numbers(m * k, 1), spec.a),
    b: stored(numbers(n * k, 2), spec.b),
    c: stored(numbers(m * n, 3), spec.c),
    ...(spec.bias === undefined ? {} : { bias: stored(numbers(n, 4), spec.bias) }),
  };
}

function small(spec: GemmSpec, shape: GemmShape, tile: UnitTile = SMALL): Work {
  return gemmWork(spec, shape, 1, unitsText(spec, tile));
}

async function run(work: Work, given: Contents): Promise<Float32Array> {
  return (await runWork(work, { ...given })).c!;
}

async function check(name: string, work: Work, spec: GemmSpec, shape: GemmShape): Promise<void> {
  const given = contents(spec, shape);
  const error = relativeL2(await run(work, given), gemmReference(spec, shape, given));
  assert.ok(error <= band(spec), `${name}: relative error ${error} above ${band(spec)}`);
}

/** Largest relative L2 error of a row, or of a column. */
function worstLine(actual: ArrayLike<number>, expected: ArrayLike<number>, n: number): number {
  const m = expected.length / n;
  const row = (x: ArrayLike<number>, i: number) => Array.from({ length: n }, (_, j) => x[i * n + j]!);
  const column = (x: ArrayLike<number>, j: number) => Array.from({ length: m }, (_, i) => x[i * n + j]!);
  const rows = Array.from({ length: m }, (_, i) => relativeL2(row(actual, i), row(expected, i)));
  const columns = Array.from({ length: n }, (_, j) => relativeL2(column(actual, j), column(expected, j)));
  return Math.max(...rows, ...columns);
}

const f32 = { a: "f32", b: "f32", c: "f32" } as const;
const LAYOUTS = ["NN", "NT", "TN"] as const;

test("products on matrix units match a float64 reference", async () => {
  for (const { name, spec, shape } of gemmCases) await check(name, small(spec, shape), spec, shape);
});

test("two stages and uneven tiles compute the same", async () => {
  const shape = { m: 52, n: 76, k: 72 };
  const spec = { layout: "NT", a: "bf16", b: "f32", c: "f32" } as const;
  const tile: UnitTile = { ...SMALL, down: 1, across: 2, rows: 8, columns: 32, depth: 8, buffers: 2 };
  await check("8 x 32", small(spec, shape, tile), spec, shape);
}, elsewhere);

// They compile 20 to 60 seconds each on the software driver.
Deno.test({
  name: "every tile a device is offered computes the same (COGTUNE_FULL)",
  ignore: ignore || !Deno.env.has("COGTUNE_FULL"),
  fn: async () => {
    const shape = { m: 140, n: 132, k: 72 };
    const spec = { layout: "NT", a: "bf16", b: "bf16", c: "f32" } as const;
    for (const { name, applies, work } of gemmFamily.variants) {
      if (name.startsWith("units") && applies(target, spec, shape)) {
        await check(name, work(target, spec, shape), spec, shape);
      }
    }
  },
});

test("the texts for larger units compute the same", async () => {
  const shape = { m: 44, n: 36, k: 56 };
  const square = { m: 16, n: 16, k: 16 };
  const units = [
    ...LAYOUTS.map((layout) => ({ layout, unit: square })),
    { layout: "NT", unit: { m: 16, n: 8, k: 8 } },
    { layout: "NN", unit: { m: 8, n: 16, k: 16 } },
  ] as const;
  for (const { layout, unit } of units) {
    const spec = { layout, a: "f16", b: "f16", c: "f32" } as const;
    const tile = { ...SMALL, ...unit, rows: 32, columns: 32, depth: 16 };
    const { launches: [whole] } = small(spec, shape, tile);
    const work = { launches: [{ ...whole!, launch: lowered(whole!.launch, unit) }] };
    await check(`${layout} ${JSON.stringify(unit)}`, work, spec, shape);
  }
}, elsewhere);

test("rows and columns of 1e30 beside ones of 1e-30 keep their own precision", async () => {
  const shape = { m: 36, n: 44, k: 72 };
  const { m, n, k } = shape;
  for (const layout of LAYOUTS) {
    for (const dtype of ["f32", "bf16"] as const) {
      const spec = { layout, a: dtype, b: dtype, c: "f32" } as const;
      const given = contents(spec, shape);
      const size = (line: number) => line % 2 === 0 ? 1e30 : 1e-30;
      // The columns of B are small where products would leave f32: 1e30 times 1e-10 and 1e-30 times 1e10 stay inside.
      const a = stored(
        given.a.map((x, i) => x * size(layout === "TN" ? i % m : Math.floor(i / k))) as Float32Array<ArrayBuffer>,
        dtype,
      );
      const b = stored(
        given.b.map((x, i) =>
          x * ((layout === "NT" ? Math.floor(i / k) : i % n) % 3 === 0 ? 1e-10 : 1e4)
        ) as Float32Array<
          ArrayBuffer
        >,
        dtype,
      );
      const result = await run(small(spec, shape), { ...given, a, b });
      const error = worstLine(result, gemmReference(spec, shape, { ...given, a, b }), n);
      // A single row has few numbers to average over; 2^-10 is the band of a whole product.
      const most = dtype === "f32" ? 2 * ROUNDED_OPERANDS : 2e-6;
      assert.ok(error <= most, `${layout} ${dtype}: relative error of a line ${error} above ${most}`);
    }
  }
});

test("rows that grow along the depth neither overflow nor lose what came before", async () => {
  const shape = { m: 20, n: 24, k: 120 };
  const { m, k } = shape;
  for (const layout of ["NT", "TN"] as const) {
    const spec = { layout, a: "bf16", b: "bf16", c: "f32" } as const;
    const given = contents(spec, shape);
    // Row by row: nothing at first, then 1; 1e-30 then 1e30; growing by 32 every 16 depths; falling by as much.
    const size = (row: number, p: number) =>
      [p < 40 ? 0 : 1, p < 70 ? 1e-30 : 1e30, 32 ** Math.floor(p / 16), 32 ** -Math.floor(p / 16)][row % 4]!;
    const a = stored(
      given.a.map((x, i) =>
        x * (layout === "TN" ? size(i % m, Math.floor(i / m)) : size(Math.floor(i / k), i % k))
      ) as Float32Array<
        ArrayBuffer
      >,
      "bf16",
    );
    const result = await run(small(spec, shape), { ...given, a });
    const error = worstLine(result, gemmReference(spec, shape, { ...given, a }), shape.n);
    assert.ok(error <= 2e-6, `${layout}: relative error of a line ${error}`);
  }
});

test("what is not finite stays in its row", async () => {
  const shape = { m: 20, n: 12, k: 40 };
  const spec = { layout: "NT", ...f32 } as const;
  const given = contents(spec, shape);
  given.a[3 * shape.k + 7] = NaN;
  given.a[5 * shape.k + 30] = Infinity;
  const result = await run(small(spec, shape), given);
  for (let i = 0; i < shape.m; i++) {
    const row = result.subarray(i * shape.n, (i + 1) * shape.n);
    assert.equal(row.some(Number.isFinite), i !== 3 && i !== 5, `row ${i}`);
  }
});

test("parts of a long depth sum to the whole product", async () => {
  const spec = { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true } as const;
  const shape = { m: 8, n: 36, k: 1027, alpha: 0.25 };
  await check("5 parts", gemmWork(spec, shape, 5, unitsText(spec, SMALL)), spec, shape);
});

test("two runs of a product give the same bits", async () => {
  const shape = { m: 37, n: 44, k: 96 };
  const spec = { layout: "NT", ...f32 } as const;
  const given = contents(spec, shape);
  const work = small(spec, shape);
  assert.deepEqual(await run(work, given), await run(work, given));
});

/** A card with matrix units of several shapes. */
const nvidia: Target = {
  ...{ ...plainTarget(32), workgroupBytes: 49152, f16: true, mixed: true },
  matrix: [
    { component: "f16", result: "f16", m: 16, n: 16, k: 16 },
    { component: "f16", result: "f32", m: 16, n: 8, k: 8 },
    { component: "f16", result: "f32", m: 16, n: 16, k: 16 },
  ],
};

Deno.test("products of adapters run on units, forward and backward, at every rank and storage", () => {
  const [rows, width] = [17776, 3072];
  for (const rank of [4, 16, 64, 128]) {
    const products = [
      { layout: "NT", a: "bf16", b: "f32", c: "bf16", m: rows, n: rank, k: width },
      { layout: "NT", a: "bf16", b: "f32", c: "bf16", accumulate: true, m: rows, n: width, k: rank },
      { layout: "NN", a: "bf16", b: "f32", c: "bf16", m: rows, n: rank, k: width },
      { layout: "NN", a: "bf16", b: "f32", c: "bf16", accumulate: true, m: rows, n: width, k: rank },
      { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true, m: width, n: rank, k: rows },
      { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true, m: Math.max(rank, 12), n: width, k: rows },
    ] as const;
    for (const { m, n, k, ...spec } of products) {
      const { launches } = gemm(nvidia, spec, { m, n, k });
      assert.match(launches[0]!.launch.problem!.chosen, /^units/, `${spec.layout} ${m} x ${n} x ${k}`);
    }
    // Gradients of adapters have few tiles and a long depth, which is divided.
    assert.ok(gemm(nvidia, { layout: "TN", a: "bf16", b: "bf16", c: "f32" }, { m: width, n: rank, k: rows }).scratch);
  }
});

Deno.test("products that may round run on the largest unit tile that a card holds and that makes enough workgroups", () => {
  const spec = { layout: "NT", a: "bf16", b: "bf16", c: "bf16" } as const;
  const preferred = (target: Target, m: number) =>
    gemm(target, spec, { m, n: 3072, k: 3072 }).launches[0]!.launch.problem!.preferred;
  assert.equal(preferred(nvidia, 17776), "units 128x128");
  assert.equal(preferred(nvidia, 226), "units 64x64 two stages");
  assert.equal(preferred(nvidia, 2), "wide 8", "few rows leave most of a unit empty");
  assert.doesNotMatch(preferred({ ...nvidia, mixed: false }, 17776), /^units/);
  assert.doesNotMatch(preferred({ ...nvidia, f16: false }, 17776), /^units/);
  const tiles = UNIT_SIZES.map(({ size }) => unitTile(nvidia, size));
  assert.deepEqual(tiles.map((tile) => tile?.k), [16, undefined, 16, 16], "two stages of 128 exceed 48 KiB");
  for (const tile of tiles) assert.ok(tile === undefined || unitBytes(tile) <= 49152);
});
