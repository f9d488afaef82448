import assert from "node:assert/strict";
import { gemm, gemmFamily } from "../../../kernels/matrix/gemm.ts";
import type { GemmShape, GemmSpec } from "../../../kernels/matrix/gemm_shape.ts";
import { type DType, plainTarget, type Target, type Work } from "../../../kernels/core/kernel.ts";
import { edgeCases, type GemmCase, gemmCases, gemmReference } from "./gemm_cases.ts";
import { numbers, relativeL2, runWork, stored } from "../run.ts";
import { everyTarget } from "../targets.ts";

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

async function check({ name, spec, shape }: GemmCase, work: Work): Promise<void> {
  const { c } = await runWork(work, operands(spec, shape));
  const error = relativeL2(c!, gemmReference(spec, shape, operands(spec, shape)));
  assert.ok(error <= TOLERANCE[spec.c], `${name}: relative error ${error} above ${TOLERANCE[spec.c]}`);
}

/** Long depths, of which one ends inside a group of four, that are cut into parts. */
const LONG: readonly GemmCase[] = [
  {
    name: "TN parts",
    spec: { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true },
    shape: { m: 8, n: 36, k: 2051, alpha: 0.25 },
  },
  {
    name: "NT parts",
    spec: { layout: "NT", a: "f32", b: "f32", c: "bf16", bias: "f32", activation: "gelu" },
    shape: { m: 3, n: 20, k: 700 },
  },
];

/** Variants that run every case; storage changes the loaders alone, so the others, which compile longer, run some. */
const WHOLE = ["plain", "lanes 32", "staged 32x64"];

/** Variants on matrix units and packed ones round operands, and have tests of their own. */
const exact = gemmFamily.variants.filter(({ name }) => !/^(units|packed)/.test(name));

for (const { name, applies, work } of exact) {
  Deno.test(`matrix products of variant ${name} match a float64 reference`, async () => {
    for (const each of WHOLE.includes(name) ? [...gemmCases, ...LONG] : [...edgeCases, ...LONG]) {
      const { spec, shape } = each;
      const target = (await everyTarget()).find((target) => applies(target, spec, shape))!;
      await check(each, work(target, spec, shape));
    }
  });
}

const launches = ({ launches }: Work) => launches.map(({ launch }) => launch);

Deno.test("a product is divided only when it has few tiles and a long depth", () => {
  const spec = { layout: "TN", a: "bf16", b: "bf16", c: "f32" } as const;
  const parts = (shape: GemmShape) => {
    const work = gemm(plainTarget(32), spec, shape);
    return (work.scratch?.partials ?? shape.m * shape.n) / (shape.m * shape.n);
  };
  assert.ok(parts({ m: 128, n: 3072, k: 17776 }) > 2);
  assert.equal(parts({ m: 17776, n: 3072, k: 3072 }), 1);
  assert.equal(parts({ m: 128, n: 128, k: 128 }), 1);
  assert.ok(
    parts({ m: 3072, n: 3072, k: 45104 }) * 3072 * 3072 * 4 <= 128 * 2 ** 20,
    "partial products fit in one binding",
  );
});

Deno.test("two runs of a product give the same bits", async () => {
  const spec = { layout: "NT", a: "f32", b: "f32", c: "f32" } as const;
  const shape = { m: 37, n: 44, k: 96 };
  for (const target of await everyTarget()) {
    const runs = [0, 1].map(() => runWork(gemm(target, spec, shape), operands(spec, shape)));
    const [first, second] = await Promise.all(runs);
    assert.deepEqual(first!.c, second!.c);
  }
});

Deno.test("one pipeline serves all sizes of a tile", () => {
  const spec = { layout: "NT", a: "bf16", b: "bf16", c: "bf16" } as const;
  const keys = [{ m: 5000, n: 1024, k: 8 }, { m: 17776, n: 12288, k: 3072 }].map((shape) =>
    launches(gemm(plainTarget(32), spec, shape))[0]!.kernel.key
  );
  assert.equal(keys[0], keys[1]);
});

Deno.test("a measured choice goes before the preference, unless the device can't run it", () => {
  const spec = { layout: "NT", a: "f32", b: "f32", c: "f32" } as const;
  const shape = { m: 64, n: 64, k: 64 };
  const chosen = (target: Target) => launches(gemm(target, spec, shape))[0]!.problem!;
  const target = plainTarget(8);
  const { key, preferred } = chosen(target);
  assert.equal(preferred, "lanes 32");
  assert.equal(chosen({ ...target, choices: new Map([[key, "staged 64x64"]]) }).chosen, "staged 64x64");
  assert.equal(chosen({ ...target, choices: new Map([[key, "wide 32"]]) }).chosen, "lanes 32");
  assert.equal(chosen({ ...target, choices: new Map([[key, "of another version"]]) }).chosen, "lanes 32");
  assert.notEqual(chosen({ ...target, mixed: true }).key, key);
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
