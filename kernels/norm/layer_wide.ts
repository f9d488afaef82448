/**
 * Norms over the channels of rows as GPUs like them: a workgroup has a few rows in its registers, so memory is read
 * once, and its 256 threads read 2 KiB or more of a row at a time. Four rows per eight lanes, as
 * kernels/norm/layer_octets.ts has it, are 35,552 threads for the 17,776 rows of a clip; an H100 holds 270,336.
 */
import type { Target } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import { hasSubgroups, LANES, laneSums } from "../reduce/lanes.ts";
import type { ColumnWeights, NormText } from "./layer_text.ts";
import { locateRows } from "./rows.ts";

/** Threads that share rows. */
export const WIDE_THREADS = 256;

/**
 * Rows of a workgroup by names of variants, all with the same bits: of four rows gamma, beta and modulation are loaded
 * once and two barriers serve all; of one row more workgroups fit on a multiprocessor, so that some load while others
 * wait at a barrier. Rates on GPUs: not yet measured.
 */
export const WIDE_ROWS = { "wide": 4, "wide 1 row": 1 } as const;

/** Vectors of a row per thread that still leave room for two operands of four rows: 128 of 255 registers. */
const MOST_VECTORS = 4;

/** Vectors of a row that a thread has: with them the text differs. */
export function vectorsOf(width: number): number {
  return Math.ceil(width / 4 / WIDE_THREADS);
}

/** Whether a device runs these texts for rows of `width` channels. */
export function wideRuns(target: Target, width: number): boolean {
  return hasSubgroups(target) && vectorsOf(width) <= MOST_VECTORS;
}

/** Whether they are worth it: all threads have a vector. */
export function wideSuits(target: Target, width: number): boolean {
  return wideRuns(target, width) && target.subgroups >= 16 && width >= 4 * WIDE_THREADS;
}

/** Declares `row_sum4(v, li)`: the sum of a vec4f over the workgroup, in all of its threads. */
function wideSums(target: Target): string {
  const parts = WIDE_THREADS / LANES;
  return `${laneSums(target)}
var<workgroup> parts: array<vec4f, ${parts}>;
fn row_sum4(v: vec4f, li: u32) -> vec4f {
  let octet = lane_sum4(v, li);
  // The parts of the sum before have been read by then.
  workgroupBarrier();
  if (li % ${LANES}u == 0u) { parts[li / ${LANES}u] = octet; }
  workgroupBarrier();
  let l = li % ${LANES}u;
  return lane_sum4(${unroll(parts / LANES, (i) => `parts[l + ${i * LANES}u]`, " + ")}, li);
}`;
}

const component = (i: number): string => "xyzw"[i]!;
/** One component per row, zeros behind the last: `vec4f(f(0), f(1), f(2), f(3))`. */
function packed(rows: number, f: (i: number) => string): string {
  return `vec4f(${unroll(4, (i) => i < rows ? f(i) : "0", ", ")})`;
}

/** Sum of `term(i, j)` over the components of a thread's vectors of row i. */
function total(vectors: number, term: (j: number) => string): string {
  return `dot(${unroll(vectors, term, " + ")}, vec4f(1))`;
}

/** What all texts of a width have in common. */
interface Rows {
  readonly vectors: number;
  /** `line` for each row. */
  each(line: (i: number) => string): string;
  /** {@linkcode packed} for these rows. */
  packed(f: (i: number) => string): string;
  /** Finds rows and columns: vector j of the thread is `c{j}`. */
  readonly locate: string;
  /** Loads vectors of all rows into `{name}{i}_{j}`, zeros past the end; `change` makes what is kept of `v`. */
  load(name: string, from: string, change?: (i: number) => string): string;
  /** Runs `text(j)` for the vectors inside the row. */
  columns(text: (j: number) => string): string;
}

function rowsOf({ width, rows }: ColumnWeights): Rows {
  const vectors = vectorsOf(width);
  const each = (line: (i: number) => string) => unroll(rows, line);
  const last = vectors - 1;
  const inside = (j: number, text: string) => j < last ? `{ ${text} }` : `if (inside) { ${text} }`;
  return {
    vectors,
    each,
    packed: (f) => packed(rows, f),
    locate: `${locateRows("wg", rows)}
${unroll(vectors, (j) => `  let c${j} = li + ${j * WIDE_THREADS}u;`)}
  let inside = c${last} < params.width4;`,
    load: (name, from, change = () => "v") =>
      each((i) =>
        unroll(
          vectors,
          (j) =>
            `  var ${name}${i}_${j} = vec4f(0); ${
              inside(j, `let v = load_${from}(row${i} * params.width4 + c${j}); ${name}${i}_${j} = ${change(i)};`)
            }`,
        )
      ),
    columns: (text) => unroll(vectors, (j) => `  ${inside(j, text(j))}`),
  };
}

/**
 * Layer norm: `affine` declares `a` and `d`. Values are measured from the first one of their row, o, as the sum of
 * large ones that differ little would lose the differences.
 */
export function wideLayerNorm(weights: ColumnWeights): NormText {
  const { target, start, affine } = weights;
  const { vectors, each, packed, locate, load, columns } = rowsOf(weights);
  return {
    declarations: wideSums(target),
    body: `${locate}${start}
${each((i) => `  let o${i} = load_x(row${i} * params.width4).x;`)}
${load("x", "x", (i) => `v - o${i}`)}
  let near = row_sum4(${packed((i) => total(vectors, (j) => `x${i}_${j}`))}, li) * params.inverse_width;
${columns((j) => each((i) => `x${i}_${j} = x${i}_${j} - near.${component(i)};`))}
  let square = row_sum4(${packed((i) => total(vectors, (j) => `x${i}_${j} * x${i}_${j}`))}, li);
  let mean = near + ${packed((i) => `o${i}`)};
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
      columns((j) =>
        `${affine(`c${j}`)}\n${
          each((i) =>
            `    if (live${i}) { store_y(row${i} * params.width4 + c${j}, x${i}_${j} * rs.${component(i)} * a + d); }`
          )
        }`
      )
    }
  if (li == 0u) {
${each((i) => `    if (live${i}) { store_stats(row${i}, vec4f(mean.${component(i)}, rs.${component(i)}, 0, 0)); }`)}
  }`,
  };
}

/** Gradient of layer norm in x: `affine` declares `weight`. */
export function wideLayerNormBackward(weights: ColumnWeights, accumulate: boolean): NormText {
  const { target, start, affine } = weights;
  const { vectors, each, packed, locate, load, columns } = rowsOf(weights);
  return {
    declarations: wideSums(target),
    body: `${locate}${start}
${each((i) => `  let stats${i} = load_stats(row${i});`)}
${load("x", "x", (i) => `(v - stats${i}.x) * stats${i}.y`)}
${load("g", "g")}
${columns((j) => `${affine(`c${j}`)}\n${each((i) => `    g${i}_${j} = g${i}_${j} * weight;`)}`)}
  let sum = row_sum4(${packed((i) => total(vectors, (j) => `g${i}_${j}`))}, li) * params.inverse_width;
  let product = row_sum4(${packed((i) => total(vectors, (j) => `g${i}_${j} * x${i}_${j}`))}, li) * params.inverse_width;
${
      columns((j) =>
        each((i) => {
          const at = `row${i} * params.width4 + c${j}`;
          const d = `stats${i}.y * (g${i}_${j} - sum.${component(i)} - x${i}_${j} * product.${component(i)})`;
          return `    if (live${i}) { store_dx(${at}, ${accumulate ? `load_dx(${at}) + ` : ""}${d}); }`;
        })
      )
    }`,
  };
}

/** RMS norm: `affine` declares `gamma`. */
export function wideRmsNorm(weights: ColumnWeights): NormText {
  const { target, start, affine } = weights;
  const { vectors, each, packed, locate, load, columns } = rowsOf(weights);
  return {
    declarations: wideSums(target),
    body: `${locate}${start}
${load("x", "x")}
  let square = row_sum4(${packed((i) => total(vectors, (j) => `x${i}_${j} * x${i}_${j}`))}, li);
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
      columns((j) =>
        `${affine(`c${j}`)}\n${
          each((i) =>
            `    if (live${i}) { store_y(row${i} * params.width4 + c${j}, x${i}_${j} * rs.${component(i)} * gamma); }`
          )
        }`
      )
    }`,
  };
}
