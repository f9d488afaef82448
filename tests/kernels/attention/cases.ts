/** Attention problems that tests and benchmarks share, with a float64 reference of the forward and backward pass. */
import {
  type AttentionShape,
  type AttentionSpec,
  biasStride,
  paddedSequence,
} from "../../../kernels/attention/shape.ts";

/** A named problem. */
export interface AttentionCase {
  readonly name: string;
  readonly spec: AttentionSpec;
  readonly shape: AttentionShape;
}

function named(spec: AttentionSpec, shape: AttentionShape): AttentionCase {
  const { dtype, headDim, bias } = spec;
  const { batch, heads, sequence } = shape;
  return { name: `${dtype} ${batch}x${heads}x${sequence}x${headDim}${bias ? " bias" : ""}`, spec, shape };
}

const wide = { dtype: "f32", headDim: 64 } as const;

/** Sequences of one row, of odd lengths, past one step of 32 keys and one tile of 64 rows, and long enough for the tall tile. */
export const attentionCases: readonly AttentionCase[] = [
  named(wide, { batch: 1, heads: 1, sequence: 1, scale: 0.125 }),
  named(wide, { batch: 2, heads: 2, sequence: 7, scale: 0.125 }),
  named(wide, { batch: 1, heads: 2, sequence: 32, scale: 0.125 }),
  named(wide, { batch: 2, heads: 1, sequence: 77, scale: 0.25 }),
  named(wide, { batch: 1, heads: 1, sequence: 515, scale: 0.125 }),
  named({ dtype: "bf16", headDim: 32 }, { batch: 1, heads: 2, sequence: 35, scale: 0.125 }),
  named({ dtype: "f16", headDim: 32 }, { batch: 1, heads: 3, sequence: 35, scale: 0.125 }),
  named({ dtype: "f32", headDim: 8 }, { batch: 2, heads: 3, sequence: 13, scale: 8 ** -0.5 }),
];

/** T5: relative positions, no scaling. */
export const biasCases: readonly AttentionCase[] = [
  named({ dtype: "f32", headDim: 8, bias: true }, { batch: 2, heads: 2, sequence: 11, scale: 1 }),
  named({ dtype: "bf16", headDim: 64, bias: true }, { batch: 1, heads: 3, sequence: 9, scale: 1 }),
];

/** Everything the kernels compute, laid out as they store it. */
export interface AttentionReference {
  readonly o: Float64Array;
  readonly lse: Float64Array;
  readonly delta: Float64Array;
  readonly dq: Float64Array;
  readonly dk: Float64Array;
  readonly dv: Float64Array;
}

/** The contents of the input buffers. */
export interface AttentionInputs {
  readonly q: Float32Array<ArrayBuffer>;
  readonly k: Float32Array<ArrayBuffer>;
  readonly v: Float32Array<ArrayBuffer>;
  readonly dout: Float32Array<ArrayBuffer>;
  readonly bias?: Float32Array<ArrayBuffer>;
}

/** Softmax attention and its gradients in float64. */
export function attentionReference(
  { headDim }: AttentionSpec,
  { batch, heads, sequence, scale }: AttentionShape,
  { q, k, v, dout, bias }: AttentionInputs,
): AttentionReference {
  const width = heads * headDim;
  const size = batch * sequence * width;
  const padded = paddedSequence(sequence);
  const [o, dq, dk, dv] = [0, 1, 2, 3].map(() => new Float64Array(size)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const lse = new Float64Array(batch * heads * padded);
  const delta = new Float64Array(batch * heads * padded);
  for (let head = 0; head < batch * heads; head++) {
    const at = (row: number) => (Math.floor(head / heads) * sequence + row) * width + (head % heads) * headDim;
    const dot = (x: ArrayLike<number>, i: number, y: ArrayLike<number>, j: number) => {
      let sum = 0;
      for (let c = 0; c < headDim; c++) sum += x[at(i) + c]! * y[at(j) + c]!;
      return sum;
    };
    for (let i = 0; i < sequence; i++) {
      const table = (head % heads) * biasStride(sequence) + sequence - 1 - i;
      const scores = Array.from({ length: sequence }, (_, j) => scale * dot(q, i, k, j) + (bias?.[table + j] ?? 0));
      const top = Math.max(...scores);
      const total = top + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - top), 0));
      const p = scores.map((s) => Math.exp(s - total));
      lse[head * padded + i] = total;
      for (let c = 0; c < headDim; c++) o[at(i) + c] = p.reduce((sum, pj, j) => sum + pj * v[at(j) + c]!, 0);
      delta[head * padded + i] = dot(o, i, dout, i);
      for (let j = 0; j < sequence; j++) {
        const ds = scale * p[j]! * (dot(dout, i, v, j) - delta[head * padded + i]!);
        for (let c = 0; c < headDim; c++) {
          dq[at(i) + c]! += ds * k[at(j) + c]!;
          dk[at(j) + c]! += ds * q[at(i) + c]!;
          dv[at(j) + c]! += p[j]! * dout[at(i) + c]!;
        }
      }
    }
  }
  return { o, lse, delta, dq, dk, dv };
}
