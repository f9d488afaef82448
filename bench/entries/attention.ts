/** Attention as benchmarks launch it. */
import { paddedSequence } from "../../kernels/attention/shape.ts";
import {
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionDelta,
  attentionForward,
} from "../../kernels/attention/attention.ts";
import type { DType } from "../../kernels/core/kernel.ts";
import { randomBytes } from "../harness.ts";
import type { Entry } from "../suite.ts";

const HEAD_DIM = 64;

/** The three passes of attention and its row sums over `heads` heads of 64 columns. */
export function attentionEntries(sequence: number, heads: number, dtype: DType): Entry[] {
  const spec = { dtype, headDim: HEAD_DIM };
  const shape = { batch: 1, heads, sequence, scale: HEAD_DIM ** -0.5 };
  const size = sequence * heads * HEAD_DIM;
  const statistics = heads * paddedSequence(sequence);
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
