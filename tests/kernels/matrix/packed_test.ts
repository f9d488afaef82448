/** Products and convolutions in packed f16 with f32 sums: every case within 2^-10 of float64, and no range too wide. */
import assert from "node:assert/strict";
import { convolution } from "../../../kernels/matrix/conv.ts";
import { convStaged } from "../../../kernels/matrix/conv_staged.ts";
import { gemm, gemmFamily } from "../../../kernels/matrix/gemm.ts";
import { gemmWork } from "../../../kernels/matrix/gemm_launch.ts";
import type { GemmShape, GemmSpec } from "../../../kernels/matrix/gemm_shape.ts";
import { stagedText, type StagedTile } from "../../../kernels/matrix/gemm_staged.ts";
import type { DType, Target, Work } from "../../../kernels/core/kernel.ts";
import { causal, convCases, convError, PLAIN_SPEC } from "./conv_cases.ts";
import { edgeCases, type GemmCase, gemmCases, gemmReference } from "./gemm_cases.ts";
import { numbers, relativeL2, runWork, stored, testDevice } from "../run.ts";

const { device } = await testDevice();
const target: Target = { ...device.target, mixed: true };
const packed = gemmFamily.variants.filter(({ name }) => name.startsWith("packed"));
const ignore = !target.f16 || target.subgroups === 0;

/** Relative L2 error: sums of products rounded to 11 bits, then what storing the result rounds. */
const ROUNDED = 2 ** -10;
const STORED: Record<DType, number> = { f32: 0, f16: 5e-4, bf16: 4e-3, u32: 0 };

function contents(spec: GemmSpec, { m, n, k }: GemmShape) {
  return {
    a: stored(numbers(m * k, 1), spec.a),
    b: stored(numbers(n * k, 2), spec.b),
    c: stored(numbers(m * n, 3), spec.c),
    ...(spec.bias === undefined ? {} : { bias: stored(numbers(n, 4), spec.bias) }),
  };
}

/** The software driver compiles it in a tenth of the time of those for cards, whose texts differ in numbers alone. */
const SMALL: StagedTile = {
  ...{ rows: 32, columns: 32, depth: 32, rowGroups: 1, columnGroups: 1 },
  ...{ buffers: 2, packed: true },
};

function small(spec: GemmSpec, shape: GemmShape, parts = 1): Work {
  return gemmWork(spec, shape, parts, stagedText(spec, SMALL));
}

async function check({ name, spec, shape }: GemmCase, work: Work): Promise<void> {
  const { c } = await runWork(work, contents(spec, shape));
  const error = relativeL2(c!, gemmReference(spec, shape, contents(spec, shape)));
  assert.ok(error <= ROUNDED + STORED[spec.c], `${name}: relative error ${error}`);
}

const f32 = { layout: "NT", a: "f32", b: "f32", c: "f32" } as const;

Deno.test({
  name: "packed products are within 2^-10 of a float64 reference",
  ignore,
  async fn() {
    for (const each of gemmCases) await check(each, small(each.spec, each.shape));
    const shape = { m: 68, n: 76, k: 1100 };
    await check({ name: "a long depth", spec: f32, shape }, small(f32, shape));
    await check({ name: "parts of a depth", spec: f32, shape }, small(f32, shape, 3));
  },
});

for (const { name, work, applies } of packed) {
  Deno.test({
    name: `variant ${name} computes the same`,
    ignore,
    async fn() {
      for (const each of Deno.env.has("COGTUNE_FULL") ? edgeCases : edgeCases.slice(0, 1)) {
        const { spec, shape } = each;
        assert.ok(applies(target, spec, shape));
        await check(each, work(target, spec, shape));
      }
    },
  });
}

Deno.test({
  name: "packed convolutions are within 2^-10 of a float64 reference",
  ignore,
  async fn() {
    for (const each of convCases) {
      const { spec, shape } = each;
      const error = await convError(each, { launches: [{ launch: convStaged(spec, shape, SMALL), writes: ["y"] }] });
      assert.ok(error <= ROUNDED + STORED[spec.y], `${each.name}: relative error ${error}`);
    }
  },
});

Deno.test({
  name: "two runs of a packed product give the same bits",
  ignore,
  async fn() {
    const shape = { m: 37, n: 44, k: 96 };
    const [first, second] = await Promise.all([0, 1].map(() => runWork(small(f32, shape), contents(f32, shape))));
    assert.deepEqual(first!.c, second!.c);
  },
});

Deno.test({
  name: "lines of 1e30 and of 1e-30 neither overflow nor vanish in packed products",
  ignore,
  async fn() {
    const [m, n, k] = [20, 24, 64];
    for (const layout of ["NN", "NT", "TN"] as const) {
      const spec = { layout, a: "f32", b: "f32", c: "f32" } as const;
      const size = (i: number) => i % 2 === 0 ? 1e30 : 1e-30;
      const a = numbers(m * k, 1).map((v, at) => v * size(layout === "TN" ? at % m : Math.floor(at / k)));
      const b = numbers(n * k, 2);
      const expected = gemmReference(spec, { m, n, k }, { a, b, c: new Float32Array(m * n) });
      const { c } = await runWork(small(spec, { m, n, k }), { a, b, c: m * n });
      for (let row = 0; row < m; row++) {
        const part = (values: ArrayLike<number>) =>
          Float64Array.from({ length: n }, (_, i) => values[row * n + i]! / size(row));
        const error = relativeL2(part(c!), part(expected));
        // A single row of so few columns may lie above the mean of all.
        assert.ok(error <= 2 * ROUNDED, `${layout}, row ${row}: relative error ${error}`);
      }
    }
  },
});

Deno.test("packed products run where rounding is allowed and a measurement chose them", () => {
  const spec = { layout: "NT", a: "bf16", b: "bf16", c: "bf16" } as const;
  const shape = { m: 64, n: 64, k: 64 };
  const able: Target = { ...target, f16: true, matrix: [], subgroups: 32 };
  const problem = gemm(able, spec, shape).launches[0]!.launch.problem!;
  assert.ok(problem.candidates().includes("packed 64x64"));
  assert.doesNotMatch(problem.chosen, /packed/);
  const chosen = { ...able, choices: new Map([[problem.key, "packed 64x64"]]) };
  assert.equal(gemm(chosen, spec, shape).launches[0]!.launch.problem!.chosen, "packed 64x64");
  const convolved = convolution(able, PLAIN_SPEC, causal).launches[0]!.launch.problem!;
  assert.ok(convolved.candidates().includes("packed 64x64"));
  const exact = gemm({ ...able, mixed: false }, spec, shape).launches[0]!.launch.problem!;
  assert.ok(!exact.candidates().some((name) => name.startsWith("packed")));
});
