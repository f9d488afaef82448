/** Attention forward without a sequence x sequence matrix: online softmax, the log-sum-exp kept for the backward pass. */
import { type BufferSpec, type DType, foldGrid, type Kernel, type Launch, type Target } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import {
  accumulators,
  LANE_ROWS,
  type Octet,
  octetOf,
  ownRows,
  place,
  PLACE_PARAMS,
  scoresText,
  STEP_ROWS,
  storeRows,
  tree,
  weightedSumText,
} from "./octet.ts";
import { launchPlain, plainForward } from "./plain.ts";

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

/** Elements of one head's row of a per-query f32 tensor: the sequence padded to a multiple of four. */
export function paddedSequence(sequence: number): number {
  return Math.ceil(sequence / 4) * 4;
}

/** Elements of one head's row of the bias table: 2 * sequence - 1 distances, padded to a multiple of four. */
export function biasStride(sequence: number): number {
  return Math.ceil((2 * sequence - 1) / 4) * 4;
}

/** Loop iterations of one invocation are limited to 65,535 on Mesa 22.3, nested ones counted. */
const MOST_ITERATIONS = 65535;

/** Throws with every size that the kernels cannot serve. */
export function checkAttention({ headDim }: AttentionSpec, { batch, heads, sequence, scale }: AttentionShape): void {
  const problems = Object.entries({ batch, heads, sequence, headDim })
    .filter(([, size]) => !Number.isInteger(size) || size < 1)
    .map(([name, size]) => `${name} is ${size}, expected a whole number from 1 up`);
  if (headDim % 4 !== 0) problems.push(`headDim is ${headDim}, expected a multiple of 4`);
  const iterations = Math.ceil(sequence / STEP_ROWS) * (1 + headDim / 4 + 8);
  if (Math.max(iterations, sequence) > MOST_ITERATIONS) {
    problems.push(`sequence is ${sequence}, more than one invocation can walk`);
  }
  if (!Number.isFinite(scale)) problems.push(`scale is ${scale}, expected a finite number`);
  if (problems.length > 0) throw new RangeError(`Cannot run attention: ${problems.join("; ")}`);
}

/** The launch of an octet kernel over all rows of all heads. */
export function launchOctets(
  kernel: Kernel,
  octet: Octet,
  spec: AttentionSpec,
  shape: AttentionShape,
  products: number,
): Launch {
  const { batch, heads, sequence, scale } = shape;
  const tiles = Math.ceil(sequence / (octet.rows * octet.octets));
  const units = tiles * batch * heads;
  return {
    kernel,
    params: [sequence, heads, heads * spec.headDim / 4, tiles, units, scale],
    grid: foldGrid(units),
    flops: 2 * products * batch * heads * sequence * sequence * spec.headDim,
  };
}

/** Running maximum of an empty row, and the score of a key past the end: finite, so that differences stay finite. */
const LOWEST = "-1e30";

/** Softmax of row i over this step's keys; what was summed before is rescaled to the larger maximum. */
function softmaxStep(i: number, groups: number): string {
  const s = (t: number) => `s${i}_${t}`;
  return `{ ${unroll(LANE_ROWS, (t) => `${s(t)} = select(${LOWEST}, ${s(t)} * scale2, key${t} <= last);`, " ")}
var x = max(max(${s(0)}, ${s(1)}), max(${s(2)}, ${s(3)})); ${tree("x", (a, b) => `max(${a}, ${b})`)}
let top = max(m${i}, x); let shrink = exp2(m${i} - top); m${i} = top;
${unroll(LANE_ROWS, (t) => `${s(t)} = exp2(${s(t)} - top);`, " ")}
l${i} = l${i} * shrink + ((${s(0)} + ${s(1)}) + (${s(2)} + ${s(3)}));
${unroll(groups, (g) => `o${i}_${g} = o${i}_${g} * shrink;`, " ")} }`;
}

function octetForward(octet: Octet): string {
  const { rows, headDim } = octet;
  return `${place(octet)}
${ownRows(octet)}
${unroll(rows, (i) => `var m${i} = ${LOWEST}; var l${i} = 0.0;`)}
${accumulators(octet, "o")}
for (var j0 = 0u; j0 <= last; j0 += ${STEP_ROWS}u) {
${scoresText(octet, [{ acc: "s", own: "query", other: "key" }])}
${unroll(LANE_ROWS, (t) => `let key${t} = j0 + ${8 * t}u + ln;`)}
${unroll(rows, (i) => softmaxStep(i, headDim / 32))}
${weightedSumText(octet, [{ acc: "o", weight: "s", values: "value" }])}
}
${unroll(rows, (i) => tree(`l${i}`, (a, b) => `${a} + ${b}`))}
${storeRows(octet, "o", (i, g) => `o${i}_${g} / l${i}`)}
${
    unroll(rows / 8, (n) =>
      `{ var top = m${8 * n}; var sum = l${8 * n};
${unroll(7, (i) => `if (ln == ${i + 1}u) { top = m${8 * n + i + 1}; sum = l${8 * n + i + 1}; }`)}
let row = row0 + ${8 * n}u + ln;
if (row <= last) { let at = head * ((params.sequence + 3u) / 4u * 4u) + row; store_element_lse(at, top * ${Math.LN2} + log(sum)); } }`)
  }`;
}

/**
 * o = softmax(scale q k^T (+ bias)) v per head, and lse = log sum exp of the scores. Buffers: q, k, v, o, lse, then bias if the
 * spec has one. lse is f32 [batch, heads, {@linkcode paddedSequence}]; its padding is not written. bias is f32
 * [heads, {@linkcode biasStride}].
 *
 * @throws {RangeError} when a size is not positive, headDim is no multiple of 4, or the sequence exceeds what one invocation
 * can walk.
 */
export function attentionForward(target: Target, spec: AttentionSpec, shape: AttentionShape): Launch {
  checkAttention(spec, shape);
  const { dtype, headDim, bias = false } = spec;
  const buffers: BufferSpec[] = ["query", "key", "value", "o"].map((name) => ({ name, dtype }));
  buffers.push({ name: "lse", dtype: "f32" });
  if (bias) buffers.push({ name: "bias", dtype: "f32" });
  // With a bias table the plain kernel serves: T5's attention is one hundredth of its arithmetic.
  const octet = bias ? undefined : octetOf(target, headDim, shape.sequence);
  if (octet === undefined) {
    return launchPlain("attention_forward", plainForward(headDim, bias), buffers, spec, shape, 2);
  }
  const kernel = buildKernel({
    name: "attention_forward",
    spec: { dtype, ...octet },
    params: PLACE_PARAMS,
    buffers,
    workgroupSize: 8 * octet.octets,
    subgroups: true,
    body: () => octetForward(octet),
  });
  return launchOctets(kernel, octet, spec, shape, 2);
}
