/** The text of the matrix product: a register tile per thread, operands behind `load_A(row, col4)` and `load_B(row, col4)`. */
import type { DType } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import type { Tile } from "./gemm_tile.ts";

/** Which operand is stored transposed. NN: A[M,K] B[K,N]; NT: B[N,K]; TN: A[K,M]. */
export type Layout = "NN" | "NT" | "TN";

const XYZW = ["x", "y", "z", "w"] as const;

/** `load_A` and `load_B`: four consecutive elements of a stored row, the only text that knows how an operand lies in memory. */
export function operandLoader(name: "A" | "B", buffer: string, width: string): string {
  return `fn load_${name}(row: u32, col4: u32) -> vec4f { return load_${buffer}(row * ${width} + col4); }`;
}

/** Loads four depths of A: `a(i, q)` is then the expression for row i of the tile at depth q. */
function leftOperand(layout: Layout, { rows, broadcast }: Tile): { text: string; a: (i: number, q: number) => string } {
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

/** Loads four depths of B: `b{j}_{q}` holds four columns of group j at depth q. Columns past the edge read the last ones. */
function rightOperand(layout: Layout, { vectors }: Tile): string {
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
function accumulate(layout: Layout, tile: Tile): string {
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
 * Body of the kernel: finds the tile, sums, and hands every four columns inside C to `finish(part, row, col4, sum, shift)`.
 * The stores are unrolled: a loop over an array of the sums compiles five times longer on Mesa 22.3.
 */
export function gemmBody(layout: Layout, tile: Tile, bias: boolean): string {
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

/** What happens to a finished sum, in the order scale, bias, activation, addition to C. */
export interface Epilogue {
  readonly bias?: DType;
  readonly activation?: "gelu" | "silu";
  readonly accumulate?: boolean;
}

/** tanh-approximated GELU through the logistic function, 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)); the bound keeps exp finite. */
const GELU = `fn activate(x: vec4f) -> vec4f {
  let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return x / (1.0 + exp(min(-2.0 * u, vec4f(80.0))));
}`;

const SILU = `fn activate(x: vec4f) -> vec4f { return x / (1.0 + exp(min(-x, vec4f(80.0)))); }`;

/** `epilogue(sum, index, shift)`: the four elements to store at `index` of C; `shift` is the bias of their columns. */
export function epilogueText({ bias, activation, accumulate }: Epilogue): string {
  const steps = [
    "var v = params.alpha * sum;",
    bias === undefined ? "" : "v = v + shift;",
    activation === undefined ? "" : "v = activate(v);",
    accumulate ? "v = v + load_c(index);" : "",
  ];
  return `${activation === "gelu" ? GELU : activation === "silu" ? SILU : ""}
fn epilogue(sum: vec4f, index: u32, shift: vec4f) -> vec4f {
${steps.filter((step) => step !== "").join("\n")}
return v;
}`;
}
