import assert from "node:assert/strict";
import { gemm, gemmPartial, type GemmShape, type GemmSpec, splitK, sumPartials } from "../../../kernels/matrix/gemm.ts";
import { gemmTile } from "../../../kernels/matrix/gemm_tile.ts";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { type GemmCase, gemmCases, gemmReference } from "./gemm_cases.ts";
import { numbers, relativeL2, runLaunch, stored, testDevice } from "../run.ts";

/** Relative L2 error allowed by the storage of C: f32 sums, or half a unit in the last place of 11 or 8 bits. */
const TOLERANCE: Record<DType, number> = { f32: 5e-7, f16: 5e-4, bf16: 4e-3, u32: 0 };

function operands(spec: GemmSpec, { m, n, k }: GemmShape) {
  return {
    a: stored(numbers(m * k, 1), spec.a),
    b: stored(numbers(n * k, 2), spec.b),
    c: stored(numbers(m * n, 3), spec.c),
    ...(spec.bias === undefined ? {} : { bias: stored(numbers(n, 4), spec.bias) }),
  };
}

async function check(target: Target, { name, spec, shape }: GemmCase): Promise<void> {
  const { a, b, c, bias } = operands(spec, shape);
  const contents = [a, b, c, ...(bias === undefined ? [] : [bias])];
  const [, , result] = await runLaunch(gemm(target, spec, shape), contents);
  const expected = gemmReference(spec, shape, operands(spec, shape));
  const error = relativeL2(result!, expected);
  assert.ok(error <= TOLERANCE[spec.c], `${name}: relative error ${error} above ${TOLERANCE[spec.c]}`);
}

async function checkSplit(target: Target, spec: GemmSpec, shape: GemmShape, splits: number): Promise<void> {
  const { a, b, c, bias } = operands(spec, shape);
  const partial = gemmPartial(target, spec, shape, splits);
  const [, , partials] = await runLaunch(partial, [a, b, splits * shape.m * shape.n]);
  const sum = sumPartials(spec, shape, splits);
  const [, result] = await runLaunch(sum, [partials!, c, ...(bias === undefined ? [] : [bias])]);
  const error = relativeL2(result!, gemmReference(spec, shape, operands(spec, shape)));
  assert.ok(error <= TOLERANCE[spec.c], `${splits} parts of ${JSON.stringify(shape)}: relative error ${error}`);
}

Deno.test("matrix products match a float64 reference with subgroup broadcasts", async () => {
  const { device } = await testDevice();
  for (const each of gemmCases) await check(device.target, each);
});

Deno.test("matrix products match a float64 reference without subgroups", async () => {
  for (const each of gemmCases) await check(plainTarget(0), each);
});

Deno.test("every tile computes the same", async () => {
  const { device } = await testDevice();
  if (device.target.subgroups === 0) return;
  // A wide subgroup's workgroups run wherever the subgroup size divides theirs, and any tile serves any size.
  const extents = [{ m: 8, n: 64, k: 64 }, { m: 2048, n: 1024, k: 1024 }];
  const tiles = [8, 32].flatMap((subgroups) => extents.map((extent) => gemmTile(plainTarget(subgroups), extent)));
  assert.equal(new Set(tiles.map((tile) => tile.rows)).size, 3, "8, 16 and 64 rows");
  const shape = { m: 68, n: 132, k: 36 };
  for (const layout of ["NN", "NT", "TN"] as const) {
    const spec = { layout, a: "f32", b: "f32", c: "f32" } as const;
    const { a, b, c } = operands(spec, shape);
    for (const tile of tiles) {
      const [, , result] = await runLaunch(gemm(device.target, spec, shape, tile), [a, b, c]);
      const error = relativeL2(result!, gemmReference(spec, shape, { a, b, c }));
      assert.ok(error <= TOLERANCE.f32, `${layout}, ${JSON.stringify(tile)}: relative error ${error}`);
    }
  }
});

Deno.test("parts of a long depth sum to the whole product", async () => {
  const { device } = await testDevice();
  for (const target of [device.target, plainTarget(0)]) {
    const spec = { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true } as const;
    await checkSplit(target, spec, { m: 8, n: 36, k: 2051, alpha: 0.25 }, 5);
    const narrow = { layout: "NT", a: "f32", b: "f32", c: "bf16", bias: "f32", activation: "gelu" } as const;
    await checkSplit(target, narrow, { m: 3, n: 20, k: 24 }, 7);
  }
});

Deno.test("a product is divided only when it has few tiles and a long depth", () => {
  const spec = { layout: "TN", a: "bf16", b: "bf16", c: "f32" } as const;
  const gpu = plainTarget(32);
  assert.ok(splitK(gpu, spec, { m: 128, n: 3072, k: 17776 }) > 8);
  assert.equal(splitK(gpu, spec, { m: 17776, n: 3072, k: 3072 }), 1);
  assert.equal(splitK(gpu, spec, { m: 128, n: 128, k: 128 }), 1);
  const parts = splitK(gpu, spec, { m: 3072, n: 3072, k: 45104 });
  assert.ok(parts * 3072 * 3072 * 4 <= 128 * 2 ** 20, "partial products fit in one binding");
});

Deno.test("two runs of a product give the same bits", async () => {
  const { device } = await testDevice();
  const spec = { layout: "NT", a: "f32", b: "f32", c: "f32" } as const;
  const shape = { m: 37, n: 44, k: 96 };
  const { a, b } = operands(spec, shape);
  const [first, second] = [await runOnce(), await runOnce()];
  assert.deepEqual(first, second);
  async function runOnce() {
    const [, , c] = await runLaunch(gemm(device.target, spec, shape), [a, b, shape.m * shape.n]);
    return c;
  }
});

Deno.test("one pipeline serves all sizes of a tile", () => {
  const spec = { layout: "NT", a: "bf16", b: "bf16", c: "bf16" } as const;
  const [small, large] = [{ m: 100, n: 64, k: 8 }, { m: 17776, n: 12288, k: 3072 }];
  const target = plainTarget(32);
  assert.equal(gemm(target, spec, small).kernel.key, gemm(target, spec, large).kernel.key);
});

Deno.test("sizes that cannot be multiplied are all named", () => {
  const spec = { layout: "TN", a: "f32", b: "f32", c: "f32" } as const;
  assert.throws(() => gemm(plainTarget(0), spec, { m: 3, n: 6, k: 0 }), (error) => {
    assert.ok(error instanceof RangeError);
    assert.match(error.message, /k is 0, expected a whole number/);
    assert.match(error.message, /n is 6, expected a multiple of 4/);
    assert.match(error.message, /m is 3, expected a multiple of 4/);
    return true;
  });
});
