/**
 * What every attention kernel is given: storage and size of a head, sizes of the tensors, and where a row of them lies.
 */
import { type BufferSpec, type DType, MOST_ITERATIONS } from "../core/kernel.ts";

/** What decides the text of the attention kernels. */
export interface AttentionSpec {
  /** Storage of every tensor but the log-sum-exp, the row sums and the bias, which are f32. */
  readonly dtype: DType;
  /** Columns of one head, a multiple of 4. */
  readonly headDim: number;
  /** Adds bias[head][key - query + sequence - 1] to the scaled scores (T5's relative positions). Forward only. */
  readonly bias?: boolean;
}

/** Sizes of q, k, v and o [batch, sequence, heads * headDim], row-major; head h is columns h * headDim onwards. */
export interface AttentionShape {
  readonly batch: number;
  readonly heads: number;
  readonly sequence: number;
  /** Factor of q k^T: 1 / sqrt(headDim), or 1 for T5. */
  readonly scale: number;
}

/** A kernel of attention. */
export interface Pass {
  readonly name: string;
  /** Names of the operands. */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /** Products of whole matrices that it takes. */
  readonly products: number;
}

/** The bindings of a pass: what it reads, what it writes, and the bias if the spec has one. */
export function passBuffers({ reads, writes }: Pass, { dtype, bias = false }: AttentionSpec): BufferSpec[] {
  const single = ["lse", "delta", "bias"];
  return [...reads, ...writes, ...(bias ? ["bias"] : [])]
    .map((name) => ({ name, dtype: single.includes(name) ? "f32" : dtype }));
}

/** Elements of one head's row of a per-query f32 tensor: the sequence padded to a multiple of four. */
export function paddedSequence(sequence: number): number {
  return Math.ceil(sequence / 4) * 4;
}

/** Elements of one head's row of the bias table: 2 * sequence - 1 distances, padded to a multiple of four. */
export function biasStride(sequence: number): number {
  return Math.ceil((2 * sequence - 1) / 4) * 4;
}

/**
 * Refuses sizes that no kernel serves.
 *
 * @throws {RangeError} naming every one: sizes below 1, a headDim that is no multiple of 4, a sequence that one
 * invocation can't walk.
 */
export function checkAttention({ headDim }: AttentionSpec, { batch, heads, sequence, scale }: AttentionShape): void {
  const problems = Object.entries({ batch, heads, sequence, headDim })
    .filter(([, size]) => !Number.isInteger(size) || size < 1)
    .map(([name, size]) => `${name} is ${size}, expected a whole number from 1 up`);
  if (headDim % 4 !== 0) problems.push(`headDim is ${headDim}, expected a multiple of 4`);
  // The plain kernel walks a row at a time; octets take fewer iterations at every size of a head that they serve.
  if (sequence > MOST_ITERATIONS) problems.push(`sequence is ${sequence}, expected at most ${MOST_ITERATIONS}`);
  if (!Number.isFinite(scale)) problems.push(`scale is ${scale}, expected a finite number`);
  if (problems.length > 0) throw new RangeError(`Cannot run attention: ${problems.join("; ")}`);
}

/** Index of the first of a head's values in a per-query tensor whose rows are {@linkcode paddedSequence} long. */
export const HEAD_STATISTICS = "head * ((params.sequence + 3u) / 4u * 4u)";
