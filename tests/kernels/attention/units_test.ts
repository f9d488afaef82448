import assert from "node:assert/strict";
import { attentionFamilies, attentionForward } from "../../../kernels/attention/attention.ts";
import {
  ATTENTION_SIZES,
  attentionBytes,
  type AttentionTile,
  attentionTile,
  launchUnits,
} from "../../../kernels/attention/unit_tile.ts";
import { type DType, type Launch, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { type AttentionCase, attentionCases, type AttentionInputs, attentionReference } from "./cases.ts";
import { lowered } from "../lower_units.ts";
import { numbers, relativeL2, runWork, stored, testDevice } from "../run.ts";
import { attentionPasses, runsLowered, skippedWithoutUnits, smallAttention } from "../small_units.ts";

const { device } = await testDevice();
const SMALL = smallAttention(device.target, 64);
const target: Target = { ...device.target, mixed: true };
const ignore = target.matrix.length === 0;
const skipped = skippedWithoutUnits(target);

function test(name: string, fn: () => Promise<void>, ignored = ignore): void {
  Deno.test({ name: name + skipped, ignore: ignored, fn });
}

/** For tests whose texts are those of other units or subgroups than the software driver's. */
const elsewhere = !runsLowered(device.target);

/** Relative L2 error of operands rounded to 11 bits; where they are stored narrow, of rounding the outputs. */
const BAND: Record<DType, number> = { f32: 2 ** -10, f16: 5e-4, bf16: 4e-3, u32: 0 };

function inputs({ spec, shape }: AttentionCase): AttentionInputs {
  const size = shape.batch * shape.heads * shape.sequence * spec.headDim;
  const tensor = (seed: number, gain: number) =>
    stored(numbers(size, seed).map((x) => gain * x) as Float32Array<ArrayBuffer>, spec.dtype);
  const [q, k, v, dout] = [tensor(1, 4), tensor(2, 4), tensor(3, 2), tensor(4, 2)];
  return { q: q!, k: k!, v: v!, dout: dout! };
}

function checkError(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.ok(Array.from(actual).every(Number.isFinite), `${name} is not finite`);
  // A single key takes all the weight, so scores have no gradient: with nothing to be relative to, the error itself counts.
  const vanishes = Array.from(expected).every((x) => Math.abs(x) < 1e-12);
  const error = vanishes ? Math.hypot(...Array.from(actual)) : relativeL2(actual, expected);
  assert.ok(error <= tolerance, `${name}: relative error ${error} above ${tolerance}`);
}

type Rewrite = (launch: Launch) => Launch;

/** What the three passes make of the inputs; the backward ones are given exact statistics. */
async function run(
  { spec, shape }: AttentionCase,
  tile: AttentionTile,
  { q, k, v, dout }: AttentionInputs,
  rewrite: Rewrite = (launch) => launch,
) {
  const expected = attentionReference(spec, shape, { q, k, v, dout });
  const results: Record<string, Float32Array> = {};
  for (const { pass, text } of attentionPasses) {
    const launch = rewrite(launchUnits(pass, text, tile, spec, shape));
    const outputs = Object.fromEntries(
      pass.writes.map((name) => [name, expected[name as "o"].length]),
    );
    const given = {
      ...{ query: q, key: k, value: v, dout },
      ...{ lse: Float32Array.from(expected.lse), delta: Float32Array.from(expected.delta) },
    };
    const held = await runWork({ launches: [{ launch, writes: pass.writes }] }, { ...given, ...outputs });
    for (const name of pass.writes) results[name] = held[name]!;
  }
  return { expected, ...results as Record<"o" | "lse" | "dq" | "dk" | "dv", Float32Array> };
}

async function check(each: AttentionCase, tile: AttentionTile, given = inputs(each), rewrite?: Rewrite): Promise<void> {
  const { expected, ...results } = await run(each, tile, given, rewrite);
  for (const [name, result] of Object.entries(results)) {
    const band = name === "lse" ? BAND.f32 : BAND[each.spec.dtype];
    checkError(`${each.name} ${name}`, result, expected[name as keyof typeof results], band);
  }
}

test("attention on matrix units matches a float64 reference, forward and backward", async () => {
  for (const each of attentionCases) {
    const { headDim } = each.spec;
    if (headDim % SMALL.n === 0 && headDim % SMALL.k === 0) await check(each, { ...SMALL, headDim });
  }
});

const narrow = { dtype: "bf16", headDim: 32 } as const;
const several: AttentionCase = {
  name: "several units",
  spec: narrow,
  shape: { batch: 1, heads: 2, sequence: 53, scale: 0.125 },
};

test("subgroups with several units of rows compute the same", async () => {
  await check(several, { ...SMALL, subgroups: 2, rows: 32, step: 16, headDim: 32 });
}, elsewhere);

test("the texts for larger units compute the same", async () => {
  const unit = { m: 16, n: 16, k: 16 };
  const tile = { ...SMALL, ...unit, rows: 32, step: 16, headDim: 32 };
  await check(several, tile, inputs(several), (launch) => lowered(launch, unit));
}, elsewhere);

// They compile a minute and more on the software driver.
Deno.test({
  name: "every size a device is offered computes the same (COGTUNE_FULL)",
  ignore: ignore || !Deno.env.has("COGTUNE_FULL"),
  fn: async () => {
    const { spec, shape } = several;
    const given = inputs(several);
    const expected = attentionReference(spec, shape, given);
    const operands = {
      ...{ query: given.q, key: given.k, value: given.v, dout: given.dout },
      ...{ lse: Float32Array.from(expected.lse), delta: Float32Array.from(expected.delta) },
    };
    for (const { variants } of Object.values(attentionFamilies)) {
      for (const { name, applies, work } of variants) {
        if (!name.startsWith("units") || !applies(target, spec, shape)) continue;
        const done = work(target, spec, shape);
        const writes = done.launches[0]!.writes as readonly ("o" | "dq" | "dk")[];
        const outputs = Object.fromEntries(writes.map((output) => [output, expected[output].length]));
        const held = await runWork(done, { ...operands, ...outputs });
        for (const output of writes) checkError(`${name} ${output}`, held[output]!, expected[output], BAND.bf16);
      }
    }
  },
});

/** f32 heads of 64 columns, whose kernels the first test has compiled. */
function wide(sequence: number, scale: number): AttentionCase {
  return {
    name: `${sequence} rows`,
    spec: { dtype: "f32", headDim: 64 },
    shape: { batch: 1, heads: 1, sequence, scale },
  };
}

function scaled(values: Float32Array<ArrayBuffer>, size: (row: number) => number): Float32Array<ArrayBuffer> {
  return values.map((x, i) => x * size(Math.floor(i / 64)));
}

test("scores far below and above zero neither overflow nor vanish", async () => {
  const each = wide(40, 1);
  const q = new Float32Array(40 * 64).fill(3);
  const k = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64) < 20 ? -1 : 1);
  const v = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64));
  // Scores are +-192, so the last twenty keys share all weight: the mean of 20..39, and 192 + log 20.
  const { o, lse } = await run(each, SMALL, { q, k, v, dout: v });
  checkError("o", o, new Float32Array(40 * 64).fill(29.5), BAND.f32);
  checkError("lse", lse, new Float32Array(40).fill(192 + Math.log(20)), 1e-6);
});

test("rows of 1e30 beside rows of 1e-30 do not overflow", async () => {
  const each = wide(40, 0.125);
  const { q, k, v, dout } = inputs(each);
  const alternate = (row: number) => row % 2 === 0 ? 1e30 : 1e-30;
  // Queries of 1e30 meet keys of 1e-30, and gradients of 1e30 values of 1e-30: products stay inside f32.
  await check({ ...each, name: "queries" }, SMALL, {
    ...{ v, dout },
    ...{ q: scaled(q, alternate), k: scaled(k, () => 1e-30) },
  });
  await check({ ...each, name: "values" }, SMALL, {
    ...{ q, k },
    ...{ v: scaled(v, alternate), dout: scaled(dout, () => 1e-30) },
  });
  await check({ ...each, name: "gradients" }, SMALL, {
    ...{ q, k },
    ...{ v: scaled(v, () => 1e-30), dout: scaled(dout, alternate) },
  });
});

test("rows that grow along the sequence keep what came before", async () => {
  const each = wide(77, 0.125);
  // Scores reach hundreds at the end, where rounding an operand to 11 bits would change them by whole units: 8 bits are exact.
  const [q, k, v, dout] = [1, 2, 3, 4].map((seed) => stored(numbers(77 * 64, seed), "bf16"));
  const [small, grown] = [() => 2 ** -8, (row: number) => 2 ** (row / 4)].map((size) => (row: number) =>
    2 ** Math.round(Math.log2(size(row)))
  );
  const keys = { q: scaled(q!, small!), k: scaled(k!, grown!), v: scaled(v!, (row) => 2 ** row), dout: dout! };
  await check({ ...each, name: "keys and values" }, SMALL, keys);
  const queries = {
    q: scaled(q!, grown!),
    k: scaled(k!, small!),
    v: v!,
    dout: scaled(dout!, (row) => 2 ** (row - 77)),
  };
  await check({ ...each, name: "queries and gradients" }, SMALL, queries);
});

test("two runs of attention give the same bits", async () => {
  const each = wide(77, 0.25);
  assert.deepEqual(await run(each, SMALL, inputs(each)), await run(each, SMALL, inputs(each)));
});

Deno.test("attention that may round prefers the first tile that a card holds", () => {
  const matrix = [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }] as const;
  const card = (workgroupBytes: number): Target => ({
    ...plainTarget(32),
    ...{ workgroupBytes, matrix, f16: true, mixed: true },
  });
  for (const bytes of [32768, 49152, 65536]) {
    for (const { text: { kept } } of attentionPasses) {
      const tiles = ATTENTION_SIZES.map(({ size }) => attentionTile(card(bytes), size, 64, kept));
      assert.ok(tiles.some((tile) => tile !== undefined), `a tile for ${bytes} bytes`);
      for (const tile of tiles) assert.ok(tile === undefined || attentionBytes(tile, kept) <= bytes);
    }
  }
  const shape = { batch: 1, heads: 48, sequence: 17776, scale: 0.125 };
  const preferred = (target: Target, headDim: number) =>
    attentionForward(target, { dtype: "bf16", headDim }, shape).launches[0]!.launch.problem!.preferred;
  assert.equal(preferred(card(49152), 64), "units 128 by 32");
  assert.doesNotMatch(preferred({ ...card(49152), mixed: false }, 64), /^units/);
  assert.equal(preferred(card(49152), 24), "plain", "heads that units do not divide");
  const spec = { dtype: "bf16", headDim: 64, bias: true } as const;
  assert.ok(
    attentionFamilies.forward.variants.every(({ name, applies }) =>
      !name.startsWith("units") || !applies(card(49152), spec, shape)
    ),
    "no relative biases on units",
  );
});
