/** `deno bench bench/attention_bench.ts`: attention forward and backward, with the matrix product they are held against. */
import { paddedSequence } from "../kernels/attention/shape.ts";
import {
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionDelta,
  attentionForward,
} from "../kernels/attention/attention.ts";
import { gemm } from "../kernels/matrix/gemm.ts";
import type { DType } from "../kernels/core/kernel.ts";
import { randomBytes } from "./harness.ts";
import { benchLaunches, type Entry } from "./suite.ts";

const HEADS = 2;
const HEAD_DIM = 64;
const SEQUENCES = [513, 1024];
const STORAGE = ["f32", "bf16"] as const satisfies readonly DType[];

function entries(sequence: number, dtype: DType): Entry[] {
  const spec = { dtype, headDim: HEAD_DIM };
  const shape = { batch: 1, heads: HEADS, sequence, scale: HEAD_DIM ** -0.5 };
  const size = sequence * HEADS * HEAD_DIM;
  const statistics = HEADS * paddedSequence(sequence);
  const random = (...names: string[]) => Object.fromEntries(names.map((name) => [name, randomBytes(size, dtype)]));
  // exp(scale q k^T - lse) stays near one with a log-sum-exp of zeros, as it does in training.
  const inputs = () => ({ ...random("query", "key", "value", "dout"), lse: statistics, delta: statistics });
  const name = `${dtype}, sequence ${sequence}`;
  return [
    {
      group: "attention forward",
      name,
      launch: (target) => attentionForward(target, spec, shape),
      contents: () => ({ ...random("query", "key", "value"), o: size, lse: statistics }),
    },
    {
      group: "attention row sums",
      name,
      launch: () => attentionDelta(spec, shape),
      contents: () => ({ ...random("o", "dout"), delta: statistics }),
    },
    {
      group: "attention backward, queries",
      name,
      launch: (target) => attentionBackwardQuery(target, spec, shape),
      contents: () => ({ ...inputs(), dq: size }),
    },
    {
      group: "attention backward, keys and values",
      name,
      launch: (target) => attentionBackwardKeyValue(target, spec, shape),
      contents: () => ({ ...inputs(), dk: size, dv: size }),
    },
  ];
}

const product = STORAGE.map((dtype): Entry => ({
  group: "gemm NT 768",
  name: dtype,
  launch: (target) => gemm(target, { layout: "NT", a: dtype, b: dtype, c: dtype }, { m: 768, n: 768, k: 768 }),
  contents: () => ({ a: randomBytes(768 * 768, dtype), b: randomBytes(768 * 768, dtype), c: 768 * 768 }),
}));

await benchLaunches([
  ...product,
  ...SEQUENCES.flatMap((sequence) => STORAGE.flatMap((dtype) => entries(sequence, dtype))),
]);
