import assert from "node:assert/strict";
import { attentionForward } from "../../../kernels/attention/forward.ts";
import {
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionDelta,
} from "../../../kernels/attention/backward.ts";
import { biasStride, paddedSequence } from "../../../kernels/attention/shape.ts";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { type AttentionCase, attentionCases, type AttentionInputs, attentionReference, biasCases } from "./cases.ts";
import { numbers, relativeL2, runLaunch, stored, testDevice } from "../run.ts";

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

async function checkForward(target: Target, each: AttentionCase): Promise<void> {
  const { name, spec, shape } = each;
  const { q, k, v, dout, bias } = inputs(each);
  const expected = attentionReference(spec, shape, { q, k, v, dout, ...(bias === undefined ? {} : { bias }) });
  const launch = attentionForward(target, spec, shape);
  const contents = [q, k, v, q.length, expected.lse.length, ...(bias === undefined ? [] : [bias])];
  const results = await runLaunch(launch, contents);
  checkError(`${name} o`, results[3]!, expected.o, FORWARD[spec.dtype]);
  checkError(`${name} lse`, results[4]!, expected.lse, FORWARD.f32);
}

async function checkBackward(target: Target, each: AttentionCase): Promise<void> {
  const { name, spec, shape } = each;
  const given = inputs(each);
  const { q, k, v, dout } = given;
  const expected = attentionReference(spec, shape, given);
  const tolerance = BACKWARD[spec.dtype];
  const o = stored(Float32Array.from(expected.o), spec.dtype);
  const padded = expected.lse.length;
  const [, , delta] = await runLaunch(attentionDelta(spec, shape), [o, dout, padded]);
  checkError(`${name} delta`, delta!, expected.delta, tolerance);
  const statistics = [Float32Array.from(expected.lse), Float32Array.from(expected.delta)];
  const contents = [q, k, v, dout, ...statistics, q.length];
  const query = await runLaunch(attentionBackwardQuery(target, spec, shape), contents);
  checkError(`${name} dq`, query[6]!, expected.dq, tolerance);
  const keyValue = await runLaunch(attentionBackwardKeyValue(target, spec, shape), [...contents, q.length]);
  checkError(`${name} dk`, keyValue[6]!, expected.dk, tolerance);
  checkError(`${name} dv`, keyValue[7]!, expected.dv, tolerance);
}

Deno.test("attention forward matches a float64 reference over octets", async () => {
  const { device } = await testDevice();
  for (const each of attentionCases) await checkForward(device.target, each);
});

Deno.test("attention forward matches a float64 reference with a thread per query", async () => {
  for (const each of [...attentionCases, ...biasCases]) await checkForward(plainTarget(0), each);
});

Deno.test("attention backward matches a float64 reference over octets", async () => {
  const { device } = await testDevice();
  for (const each of attentionCases) await checkBackward(device.target, each);
});

Deno.test("attention backward matches a float64 reference with a thread per row", async () => {
  for (const each of attentionCases) await checkBackward(plainTarget(0), each);
});

Deno.test("the octets of a wide subgroup compute the same", async () => {
  const { device } = await testDevice();
  if (device.target.subgroups === 0) return;
  await checkForward(plainTarget(32), attentionCases[3]!);
  await checkBackward(plainTarget(32), attentionCases[3]!);
});

Deno.test("scores far below and above zero neither overflow nor vanish", async () => {
  const { device } = await testDevice();
  const shape = { batch: 1, heads: 1, sequence: 40, scale: 1 };
  const q = new Float32Array(40 * 64).fill(3);
  const k = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64) < 20 ? 1 : -1);
  const v = Float32Array.from({ length: 40 * 64 }, (_, i) => Math.floor(i / 64));
  for (const target of [device.target, plainTarget(0)]) {
    // Scores are +-192, so the first twenty keys share all weight: the mean of 0..19, and 192 + log 20.
    const results = await runLaunch(attentionForward(target, { dtype: "f32", headDim: 64 }, shape), [
      q,
      k,
      v,
      q.length,
      paddedSequence(40),
    ]);
    checkError("o", results[3]!, new Float32Array(40 * 64).fill(9.5), 1e-6);
    checkError("lse", results[4]!, new Float32Array(40).fill(192 + Math.log(20)), 1e-6);
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
