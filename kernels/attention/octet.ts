/**
 * The building blocks of attention over subgroups. An octet (8 neighbouring lanes) owns `rows` rows of one operand;
 * each lane owns 4 of the 32 rows of the other operand that are in flight. Scores stay in registers, so there is no
 * workgroup memory and no barrier. Forward and backward are the same two steps, scores and weighted sums, with the
 * operands exchanged.
 */
import { foldGrid, type Launch } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { type AttentionShape, type AttentionSpec, type Pass, passBuffers } from "./shape.ts";

/** Rows of the other operand per lane and step. */
export const LANE_ROWS = 4;

/** Rows of the other operand per octet and step. */
export const STEP_ROWS = 8 * LANE_ROWS;

/** What one octet owns. */
export interface Octet {
  readonly headDim: number;
  /** Rows per octet, a multiple of 8. */
  readonly rows: number;
  /** Octets of a workgroup, all in one head. */
  readonly octets: number;
  /** True when a subgroup holds several octets: lanes are then numbered from the octet's first. */
  readonly wide: boolean;
}

/** Words of `params` that {@linkcode place} reads. */
const PLACE_PARAMS = ["sequence", "heads", "stride4", "tiles", "units", "scale:f32"] as const;

/**
 * Finds the octet's head and first row. In scope afterwards: `head` (of all batches), `origin`, `row0`, `last`, `ln`.
 */
export function place({ headDim, rows, octets, wide }: Octet): string {
  return `if (wg >= params.units) { return; }
let head = wg / params.tiles;
let row0 = (wg % params.tiles * ${octets}u + li / 8u) * ${rows}u;
let last = params.sequence - 1u;
let origin = head / params.heads * params.sequence * params.stride4 + head % params.heads * ${headDim / 4}u;
let ln = lane & 7u;${wide ? "\nlet octet = lane & 0xfffffff8u;" : ""}
let scale2 = params.scale * ${Math.LOG2E};`;
}

/** Value of lane `i` of the octet; constant lanes of a narrow subgroup compile to a plain broadcast. */
export function share({ wide }: Octet, value: string, i: number | string): string {
  const lane = typeof i === "number" ? `${i}u` : i;
  if (wide) return `subgroupShuffle(${value}, octet + ${lane})`;
  return typeof i === "number" ? `subgroupBroadcast(${value}, ${lane})` : `subgroupShuffle(${value}, ${lane})`;
}

/** Reduces `variable` over the octet in place: three exchanges, a fixed order. */
export function tree(variable: string, combine: (a: string, b: string) => string): string {
  return [1, 2, 4].map((step) => `${variable} = ${combine(variable, `subgroupShuffleXor(${variable}, ${step}u)`)};`)
    .join(
      " ",
    );
}

/** Index of the first column group of `row`; rows past the end read the last one. */
function rowStart(row: string): string {
  return `origin + min(${row}, last) * params.stride4`;
}

/** One product of rows: `acc{i}_{t}` becomes the dot product of owned row i and the lane's row t of the step. */
export interface Scores {
  readonly acc: string;
  /** Buffer whose rows the octet owns. */
  readonly own: string;
  /** Buffer whose rows the step walks. */
  readonly other: string;
}

/** Indices of the owned rows that this lane loads: `own{n}`. */
export function ownRows({ rows }: Octet): string {
  return unroll(rows / 8, (n) => `let own${n} = ${rowStart(`row0 + ${8 * n}u + ln`)};`);
}

/** Scores of the 32 rows from `j0` on, four columns at a time. */
export function scoresText(octet: Octet, products: readonly Scores[]): string {
  const { rows, headDim } = octet;
  const each = (text: (product: Scores) => string) => products.map(text).join("\n");
  return `${unroll(LANE_ROWS, (t) => `let other${t} = ${rowStart(`j0 + ${8 * t}u + ln`)};`)}
${each(({ acc }) => unroll(rows, (i) => unroll(LANE_ROWS, (t) => `var ${acc}${i}_${t} = 0.0;`, " ")))}
for (var c = 0u; c < ${headDim / 4}u; c++) {
${
    each(({ acc, own, other }) =>
      `{ ${unroll(rows / 8, (n) => `let a${n} = load_${own}(own${n} + c);`, " ")}
${unroll(LANE_ROWS, (t) => `let b${t} = load_${other}(other${t} + c);`)}
${
        unroll(rows, (i) =>
          `{ let a = ${share(octet, `a${i >> 3}`, i & 7)}; ${
            unroll(LANE_ROWS, (t) => `${acc}${i}_${t} = ${acc}${i}_${t} + dot(a, b${t});`, " ")
          } }`)
      } }`
    )
  }
}`;
}

/**
 * One weighted sum: `acc{i}_{g}` grows by weight{i}_{t} times row t of `values`, summed over the 32 rows of the step.
 */
export interface WeightedSum {
  readonly acc: string;
  readonly weight: string;
  readonly values: string;
}

/** Accumulators of a weighted sum: the lane's columns are the groups ln, ln + 8 of each owned row. */
export function accumulators({ rows, headDim }: Octet, acc: string): string {
  return unroll(rows, (i) => unroll(headDim / 32, (g) => `var ${acc}${i}_${g} = vec4f(0);`, " "));
}

/** Adds the 32 rows from `j0` on to the sums; weights come from the lanes that computed them. */
export function weightedSumText(octet: Octet, sums: readonly WeightedSum[]): string {
  const { rows, headDim } = octet;
  const groups = headDim / 32;
  const text = ({ acc, weight, values }: WeightedSum) =>
    `{
${unroll(LANE_ROWS, (t) => unroll(groups, (g) => `let b${t}_${g} = load_${values}(row${t} + ${8 * g}u);`, " "))}
${
      unroll(rows, (i) =>
        `{ ${unroll(LANE_ROWS, (t) => `let w${t} = ${share(octet, `${weight}${i}_${t}`, "k")};`, " ")} ${
          unroll(groups, (g) => {
            const products = unroll(LANE_ROWS, (t) =>
              `w${t} * b${t}_${g}`, " + ");
            return `${acc}${i}_${g} = ${acc}${i}_${g} + (${products});`;
          }, " ")
        } }`)
    } }`;
  return `for (var k = 0u; k < 8u; k++) {
${unroll(LANE_ROWS, (t) => `let row${t} = ${rowStart(`j0 + ${8 * t}u + k`)} + ln;`)}
${sums.map(text).join("\n")}
}`;
}

/** Stores `value(i, g)` for every owned row inside the sequence. */
export function storeRows({ rows, headDim }: Octet, buffer: string, value: (i: number, g: number) => string): string {
  return unroll(
    rows,
    (i) =>
      `if (row0 + ${i}u <= last) { ${
        unroll(
          headDim / 32,
          (g) => `store_${buffer}(origin + (row0 + ${i}u) * params.stride4 + ln + ${8 * g}u, ${value(i, g)});`,
          " ",
        )
      } }`,
  );
}

/** The launch of a pass over all rows of all heads. */
export function launchOctets(
  pass: Pass,
  text: (octet: Octet) => string,
  octet: Octet,
  spec: AttentionSpec,
  { batch, heads, sequence, scale }: AttentionShape,
): Launch {
  const { rows, octets, headDim } = octet;
  const tiles = Math.ceil(sequence / (rows * octets));
  const units = tiles * batch * heads;
  return {
    kernel: buildKernel({
      name: pass.name,
      spec: { dtype: spec.dtype, ...octet },
      params: PLACE_PARAMS,
      buffers: passBuffers(pass, spec),
      workgroupSize: 8 * octets,
      lane: true,
      body: () => text(octet),
    }),
    params: [sequence, heads, heads * headDim / 4, tiles, units, scale],
    grid: foldGrid(units),
    flops: 2 * pass.products * batch * heads * sequence * sequence * headDim,
  };
}
