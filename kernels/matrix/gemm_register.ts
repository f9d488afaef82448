/**
 * Matrix products from registers alone: a thread owns a tile of C and reads both operands where they lie. Rows of the
 * left operand are loaded once per 8 lanes and broadcast where subgroups work.
 */
import { unroll } from "../core/wgsl.ts";
import type { GemmText } from "./gemm_launch.ts";
import type { GemmSpec, Layout } from "./gemm_shape.ts";

/** The part of C that one thread and one workgroup own. */
export interface RegisterTile {
  /** Rows of C per thread. */
  readonly rows: number;
  /** Groups of four columns of C per thread; they lie `lanes` groups apart, so neighbouring threads read neighbours. */
  readonly vectors: number;
  /** Threads of a workgroup along the columns. */
  readonly lanes: number;
  /** Threads of a workgroup along the rows. */
  readonly groups: number;
  /** Whether the rows of the left operand are loaded once per 8 lanes and broadcast. */
  readonly broadcast: boolean;
}

const XYZW = ["x", "y", "z", "w"] as const;

/** Loads four depths of A: `a(i, q)` is then the expression for row i of the tile at depth q. */
function leftOperand(
  layout: Layout,
  { rows, broadcast }: RegisterTile,
): { text: string; a: (i: number, q: number) => string } {
  // With broadcast each of 8 lanes loads one row (or, transposed, four rows) and constant lanes hand them round.
  // Rows past the edge read the last row instead: their products are never stored.
  if (layout === "TN") {
    const loads = broadcast ? Math.ceil(rows / 32) : rows / 4;
    const column = (i: number) => broadcast ? `${i * 8}u + min(lane & 7u, ${Math.min(8, rows / 4) - 1}u)` : `${i}u`;
    return {
      text: unroll(
        4,
        (q) =>
          unroll(
            loads,
            (i) =>
              `let a${i}_${q} = load_A(min(k4 * 4u + ${q}u, params.k - 1u), min(m0 / 4u + ${
                column(i)
              }, params.m / 4u - 1u));`,
          ),
      ),
      a: (i, q) =>
        broadcast
          ? `subgroupBroadcast(a${i >> 5}_${q}.${XYZW[i & 3]}, ${(i & 31) >> 2}u)`
          : `a${i >> 2}_${q}.${XYZW[i & 3]}`,
    };
  }
  const loads = broadcast ? rows / 8 : rows;
  const row = (i: number) => broadcast ? `${i * 8}u + (lane & 7u)` : `${i}u`;
  return {
    text: unroll(loads, (i) => `let a${i} = load_A(min(m0 + ${row(i)}, params.m - 1u), k4);`),
    a: (i, q) => broadcast ? `subgroupBroadcast(a${i >> 3}.${XYZW[q]}, ${i & 7}u)` : `a${i}.${XYZW[q]}`,
  };
}

/**
 * Loads four depths of B: `b{j}_{q}` holds four columns of group j at depth q. Columns past the edge read the last
 * ones.
 */
function rightOperand(layout: Layout, { vectors }: RegisterTile): string {
  if (layout === "NN") {
    return unroll(4, (q) => unroll(vectors, (j) => `let b${j}_${q} = load_B(k4 * 4u + ${q}u, n${j});`));
  }
  if (layout === "TN") {
    // The depth counts rows here and may end inside a group of four: depths past the end are zero on this side.
    const depth = (q: number) => `k4 * 4u + ${q}u`;
    return unroll(4, (q) =>
      unroll(
        vectors,
        (j) =>
          `let b${j}_${q} = select(vec4f(0), load_B(min(${depth(q)}, params.k - 1u), n${j}), ${depth(q)} < params.k);`,
      ));
  }
  // Four rows of B are four columns of C; the transposition moves registers only.
  return unroll(vectors, (j) =>
    [
      unroll(4, (q) => `let t${j}_${q} = load_B(n${j} * 4u + ${q}u, k4);`),
      unroll(4, (q) => `let b${j}_${q} = vec4f(${unroll(4, (p) => `t${j}_${p}.${XYZW[q]}`, ", ")});`),
    ].join("\n"));
}

/** Declares the accumulators and sums over the depths `k_first <= k4 < k_end`; the result is in `c{i}_{j}`. */
function accumulate(layout: Layout, tile: RegisterTile): string {
  const { rows, vectors } = tile;
  const { text, a } = leftOperand(layout, tile);
  // All four depths of one accumulator in a row: compilers keep source order, and this order keeps it in a register.
  const update = (i: number) =>
    `{ ${unroll(4, (q) => `let s${q} = ${a(i, q)};`, " ")}
${unroll(vectors, (j) => `c${i}_${j} = c${i}_${j} + (${unroll(4, (q) => `s${q} * b${j}_${q}`, " + ")});`)} }`;
  return `${unroll(rows, (i) => unroll(vectors, (j) => `var c${i}_${j} = vec4f(0);`, " "))}
for (var k4 = k_first; k4 < k_end; k4++) {
${text}
${rightOperand(layout, tile)}
${unroll(rows, update)}
}`;
}

/**
 * Body of the kernel: finds the tile, sums, and hands every four columns inside C to `finish(part, row, col4, sum,
 * shift)`. The stores are unrolled: a loop over an array of the sums compiles five times longer on Mesa 22.3.
 */
function gemmBody(layout: Layout, tile: RegisterTile, bias: boolean): string {
  const { rows, vectors, lanes, groups } = tile;
  const across = 4 * vectors * lanes;
  return `if (wg >= params.tiles * params.parts) { return; }
let part = wg / params.tiles;
let number = wg % params.tiles;
let m0 = (number / params.across * ${groups}u + li / ${lanes}u) * ${rows}u;
let column = number % params.across * ${across / 4}u + li % ${lanes}u;
let last = params.n4 - 1u;
${unroll(vectors, (j) => `let n${j} = min(column + ${j * lanes}u, last);`)}
let k_first = part * params.depth;
let k_end = min(k_first + params.depth, params.k4);
${accumulate(layout, tile)}
${
    unroll(vectors, (j) =>
      `if (column + ${j * lanes}u <= last) {
let shift = ${bias ? `load_bias(n${j})` : "vec4f(0)"};
${unroll(rows, (i) => `if (m0 + ${i}u < params.m) { finish(part, m0 + ${i}u, n${j}, c${i}_${j}, shift); }`)}
}`)
  }`;
}

/** The text of a tile. */
export function registerText({ layout }: GemmSpec, tile: RegisterTile): GemmText {
  const { rows, vectors, lanes, groups, broadcast } = tile;
  return {
    name: "gemm",
    tile: { ...tile },
    workgroupSize: lanes * groups,
    lane: broadcast,
    rows: rows * groups,
    columns: 4 * vectors * lanes,
    body: (bias) => gemmBody(layout, tile, bias),
  };
}
