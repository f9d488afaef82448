import assert from "node:assert/strict";
import {
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionDelta,
  attentionFamilies,
  attentionForward,
} from "../../../kernels/attention/attention.ts";
import {
  type AttentionShape,
  type AttentionSpec,
  biasStride,
  paddedSequence,
} from "../../../kernels/attention/shape.ts";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import type { Family } from "../../../kernels/core/variants.ts";
import { type AttentionCase, attentionCases, type AttentionInputs, attentionReference, biasCases } from "./cases.ts";
import { numbers, relativeL2, runLaunch, runWork, stored } from "../run.ts";
import { everyTarget } from "../targets.ts";

/** Relative L2 error allowed by the storage: f32 sums, or rounding the outputs to 11 or 8 bits. */
const FORWARD: Record<DType, number> = { f32: 1e-6, f16: 5e-4, bf16: 4e-3, u32: 0 };
const BACKWARD: Record<DType, number> = { f32: 2e-6, f16: 5e-4, bf16: 4e-3, u32: 0 };

function inputs({ spec, shape }: AttentionCase): AttentionInputs {
  const size = shape.batch * shape.heads * shape.sequence * spec.headDim;
  const tensor = (seed: number, gain: number) =>
    stored(numbers(size, seed).map((x) => gain * x) as Float32Array<ArrayBuffer>, spec.dtype);
  const [q, k, v, dout] = [tensor(1, 4), tensor(2, 4), tensor(3, 2), tensor(4, 2)];
  const base = { q: q!, k: k!, v: v!, dout: dout! };
  return spec.bias ? { ...base, bias: numbers(shape.heads * biasStride(shape.sequence), 5) } : base;
}

function checkError(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  // A single key takes all the weight, so scores have no gradient: with nothing to be relative to, the error itself counts.
  const vanishes = Array.from(expected).every((x) => Math.abs(x) < 1e-12);
  const error = vanishes ? Math.hypot(...Array.from(actual)) : relativeL2(actual, expected);
  assert.ok(error <= tolerance, `${name}: relative error ${error} above ${tolerance}`);
}

/** The work of a variant for the first target that can run it; undefined where none can. */
async function workOf(family: Family<AttentionSpec, AttentionShape>, variant: string, { spec, shape }: AttentionCase) {
  const { applies, work } = family.variants.find(({ name }) => name === variant)!;
  const target = (await everyTarget()).find((target) => applies(target, spec, shape));
  return target === undefined ? undefined : work(target, spec, shape);
}

async function checkForward(variant: string, each: AttentionCase): Promise<void> {
  const { name, spec, shape } = each;
  const { q, k, v, dout, bias } = inputs(each);
  const work = await workOf(attentionFamilies.forward, variant, each);
  if (work === undefined) return;
  const optional = bias === undefined ? {} : { bias };
  const expected = attentionReference(spec, shape, { q, k, v, dout, ...optional });
  const outputs = { o: q.length, lse: expected.lse.length };
  const { o, lse } = await runWork(work, { query: q, key: k, value: v, ...outputs, ...optional });
  checkError(`${name} o`, o!, expected.o, FORWARD[spec.dtype]);
  checkError(`${name} lse`, lse!, expected.lse, FORWARD.f32);
}

async function checkBackward(variant: string, each: AttentionCase): Promise<void> {
  const { name, spec, shape } = each;
  const query = await workOf(attentionFamilies.query, variant, each);
  const keyValue = await workOf(attentionFamilies.keyValue, variant, each);
  if (query === undefined || keyValue === undefined) return;
  const given = inputs(each);
  const { q, k, v, dout } = given;
  const expected = attentionReference(spec, shape, given);
  const tolerance = BACKWARD[spec.dtype];
  const statistics = { lse: Float32Array.from(expected.lse), delta: Float32Array.from(expected.delta) };
  const operands = { query: q, key: k, value: v, dout, ...statistics };
  const { dq } = await runWork(query, { ...operands, dq: q.length });
  checkError(`${name} dq`, dq!, expected.dq, tolerance);
  const { dk, dv } = await runWork(keyValue, { ...operands, dk: q.length, dv: q.length });
  checkError(`${name} dk`, dk!, expected.dk, tolerance);
  checkError(`${name} dv`, dv!, expected.dv, tolerance);
}

/** Variants on matrix units round operands, and have tests of their own. */
const exact = attentionFamilies.forward.variants.filter(({ name }) => !name.startsWith("units"));

for (const { name } of exact) {
  Deno.test(`attention forward of variant ${name} matches a float64 reference`, async () => {
    for (const each of [...attentionCases, ...biasCases]) await checkForward(name, each);
  });

  Deno.test(`attention backward of variant ${name} matches a float64 reference`, async () => {
    for (const each of attentionCases) await checkBackward(name, each);
  });
}

Deno.test("row sums of attention match a float64 reference", async () => {
  for (const each of attentionCases) {
    const { name, spec, shape } = each;
    const given = inputs(each);
    const expected = attentionReference(spec, shape, given);
    const o = stored(Float32Array.from(expected.o), spec.dtype);
    const [, , delta] = await runLaunch(attentionDelta(spec, shape), [o, given.dout, expected.lse.length]);
    checkError(`${name} delta`, delta!, expected.delta, BACKWARD[spec.dtype]);
  }
});

Deno.test("devices run the passes with the variants made for them", () => {
  const spec = { dtype: "bf16", headDim: 64 } as const;
  const shape = { batch: 1, heads: 48, sequence: 17776, scale: 0.125 };
  const chosen = (target: Target, changes: Partial<AttentionSpec & AttentionShape> = {}) =>
    [attentionForward, attentionBackwardQuery, attentionBackwardKeyValue].map((pass) =>
      pass(target, { ...spec, ...changes }, { ...shape, ...changes }).launches[0]!.launch.problem!.chosen
    );
  const all = (name: string) => [name, name, name];
  assert.deepEqual(chosen(plainTarget(0)), all("plain"));
  assert.deepEqual(chosen(plainTarget(8)), all("octets 32"));
  assert.deepEqual(chosen(plainTarget(8), { sequence: 500 }), all("octets 16"));
  assert.deepEqual(chosen(plainTarget(8), { headDim: 8 }), all("plain"));
  // The backward passes own rows of two operands, which take twice the workgroup memory.
  const gpu = (workgroupBytes: number) => ({ ...plainTarget(32), workgroupBytes });
  assert.deepEqual(chosen(gpu(32768)), ["staged 64x8", "staged 32x4", "staged 32x4"]);
  assert.deepEqual(chosen(gpu(16384)), all("wide octets 8"));
});

Deno.test("scores far below and above zero neither overflow nor vanish", async () => {
  const spec = { dtype: "f32", headDim: 64 } as const;
  const shape = { batch: 1, heads: 1, sequence: 40, scale: 1 };
  const query = new Float32Array(40 * 64).fill(3);
  const key = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64) < 20 ? 1 : -1);
  const value = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64));
  const outputs = { o: query.length, lse: paddedSequence(40) };
  for (const { name } of exact) {
    const work = await workOf(attentionFamilies.forward, name, { name, spec, shape });
    if (work === undefined) continue;
    // Scores are +-192, so the first twenty keys share all weight: the mean of 0..19, and 192 + log 20.
    const { o, lse } = await runWork(work, { query, key, value, ...outputs });
    checkError("o", o!, new Float32Array(40 * 64).fill(9.5), 1e-6);
    checkError("lse", lse!, new Float32Array(40).fill(192 + Math.log(20)), 1e-6);
  }
});

Deno.test("sizes that attention cannot run with are all named", () => {
  assert.throws(
    () =>
      attentionForward(plainTarget(8), { dtype: "f32", headDim: 6 }, {
        batch: 0,
        heads: 1,
        sequence: 100000,
        scale: 1,
      }),
    (error) => {
      assert.ok(error instanceof RangeError);
      assert.match(error.message, /batch is 0/);
      assert.match(error.message, /headDim is 6, expected a multiple of 4/);
      assert.match(error.message, /sequence is 100000/);
      return true;
    },
  );
});
