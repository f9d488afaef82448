/**
 * The building blocks of attention through workgroup memory, for GPUs without reachable matrix units. A workgroup owns
 * rows of one or two operands and walks the rows of the others, 32 at a time. Both steps, scores and weighted sums, are
 * matrix products out of workgroup memory with a tile of rows and columns per thread; eight neighbouring threads share
 * the same rows, so that row maxima and sums are three exchanges among them whatever the subgroup size.
 */
import { foldGrid, type Launch } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { type AttentionShape, type AttentionSpec, HEAD_STATISTICS, type Pass, passBuffers } from "./shape.ts";

/** Rows of the other operands per step. */
export const STEP = 32;

/** Threads that share rows; each has four rows of a step as columns of its scores. */
const ACROSS = STEP / 4;

/** What a workgroup owns. */
export interface StagedRows {
  readonly headDim: number;
  readonly rows: number;
  /** Groups of four rows per thread. */
  readonly rowGroups: number;
}

/**
 * 64 rows take each row of the other operands from L2 once per 64 products; a thread has eight of them (32
 * multiply-adds to three loads from workgroup memory in the scores, 64 to four in the sums) or four, which take fewer
 * registers. Rates on GPUs: not yet measured.
 */
export const STAGED_SIZES: readonly { readonly name: string; readonly tile: Omit<StagedRows, "headDim"> }[] = [
  { name: "staged 64x8", tile: { rows: 64, rowGroups: 2 } },
  { name: "staged 64x4", tile: { rows: 64, rowGroups: 1 } },
  { name: "staged 32x4", tile: { rows: 32, rowGroups: 1 } },
];

/** The text of a pass on a tile. */
export interface StagedPass {
  /** Operands whose rows the workgroup owns. */
  readonly own: readonly string[];
  readonly body: (tile: StagedRows) => string;
}

function down({ rows, rowGroups }: StagedRows): number {
  return rows / (4 * rowGroups);
}

function threadsOf(tile: StagedRows): number {
  return down(tile) * ACROSS;
}

/** Workgroup memory of a pass: the own rows, the rows of a step, and the weights between the two. */
export function stagedBytes({ headDim, rows }: StagedRows, { own }: StagedPass): number {
  return 4 * (own.length * rows * headDim + STEP * headDim + STEP * rows);
}

/** Number of rows per thread. */
export function rowsOf({ rowGroups }: StagedRows): number {
  return 4 * rowGroups;
}

/**
 * Group of four rows `row4` of column `d4`'s four lies with its low bits flipped by `d4`: of the eight threads that
 * store 16 bytes at a time, all hold the same rows of neighbouring columns, and so they meet eight different banks.
 */
function flipped(row4: string, d4: string): string {
  return `((${row4}) ^ (${d4} & 7u))`;
}

/** Copies `count` rows of a buffer from row `first` on, with the rows as the fast index: `to[column][row / 4]`. */
function transposed(tile: StagedRows, from: string, to: string, first: string, count: number): string {
  const { headDim } = tile;
  const columns = headDim / 4;
  const index = (q: number) =>
    `origin + min(${first} + 4u * (block / ${columns}u) + ${q}u, last) * params.stride4 + block % ${columns}u`;
  return `for (var block = li; block < ${count / 4 * columns}u; block += ${threadsOf(tile)}u) {
let part = transpose(mat4x4f(${unroll(4, (q) => `load_${from}(${index(q)})`, ", ")}));
let at = block % ${columns}u * ${count}u + ${flipped(`block / ${columns}u`, `(block % ${columns}u)`)};
${unroll(4, (q) => `${to}[at + ${q * count / 4}u] = part[${q}];`)}
}`;
}

/** Stages the rows of a step for scores. */
export function stageColumns(tile: StagedRows, from: string): string {
  return transposed(tile, from, "stage", "j0", STEP);
}

/** Stages the rows of a step for weighted sums: `stage[row][column / 4]`. */
export function stageRows(tile: StagedRows, from: string): string {
  const columns = tile.headDim / 4;
  return `for (var at = li; at < ${STEP * columns}u; at += ${threadsOf(tile)}u) {
stage[at] = load_${from}(origin + min(j0 + at / ${columns}u, last) * params.stride4 + at % ${columns}u);
}`;
}

/** `acc{i}`: dot products of own row i and the thread's four rows of the step. */
export function scores(tile: StagedRows, acc: string, own: string): string {
  const { headDim, rows, rowGroups } = tile;
  const each = (text: (i: number) => string) => unroll(rowsOf(tile), text, " ");
  return `${each((i) => `var ${acc}${i} = vec4f(0);`)}
for (var deep = 0u; deep < ${headDim / 4}u; deep++) {
let own_at = deep * ${rows}u + ${flipped("ty", "deep")};
let stage_at = deep * ${STEP}u + ${flipped("tx", "deep")};
${
    unroll(4, (q) =>
      `{ let b = stage[stage_at + ${q * STEP / 4}u];
${unroll(rowGroups, (g) => `let a${g} = ${own}_own[own_at + ${q * rows / 4 + g * down(tile)}u];`)}
${each((i) => `${acc}${i} = ${acc}${i} + a${i >> 2}[${i & 3}] * b;`)} }`)
  }
}`;
}

/** Hands the weights `weight{i}` to all threads that share the rows. */
export function putWeights(tile: StagedRows, weight: string): string {
  const { rows, rowGroups } = tile;
  return unroll(
    4,
    (q) =>
      unroll(
        rowGroups,
        (g) =>
          `weights[(4u * tx + ${q}u) * ${rows / 4}u + ty + ${g * down(tile)}u] = vec4f(${
            unroll(4, (i) => `${weight}${4 * g + i}[${q}]`, ", ")
          });`,
      ),
  );
}

/** Adds the rows of a step times the weights to `acc{i}_{v}`, the thread's column groups tx and tx + 8 of row i. */
export function weightedSum(tile: StagedRows, acc: string): string {
  const { headDim, rows, rowGroups } = tile;
  const vectors = headDim / 32;
  return `for (var key = 0u; key < ${STEP}u; key++) {
${unroll(vectors, (v) => `let b${v} = stage[key * ${headDim / 4}u + tx + ${8 * v}u];`)}
${unroll(rowGroups, (g) => `let a${g} = weights[key * ${rows / 4}u + ty + ${g * down(tile)}u];`)}
${
    unroll(rowsOf(tile), (i) =>
      unroll(vectors, (v) => `${acc}${i}_${v} = ${acc}${i}_${v} + a${i >> 2}[${i & 3}] * b${v};`, " "))
  }
}`;
}

/** Declares the accumulators of a weighted sum. */
export function accumulators(tile: StagedRows, acc: string): string {
  return unroll(rowsOf(tile), (i) => unroll(tile.headDim / 32, (v) => `var ${acc}${i}_${v} = vec4f(0);`, " "));
}

/** Row i of the thread, counted in the head. */
export function rowOf(tile: StagedRows, i: number): string {
  return `(row0 + 4u * (ty + ${(i >> 2) * down(tile)}u) + ${i & 3}u)`;
}

/** Stores `value(i, v)` for every own row inside the sequence. */
export function storeRows(tile: StagedRows, buffer: string, value: (i: number, v: number) => string): string {
  return unroll(
    rowsOf(tile),
    (i) =>
      `if (${rowOf(tile, i)} <= last) { let at = origin + ${rowOf(tile, i)} * params.stride4 + tx;
${unroll(tile.headDim / 32, (v) => `store_${buffer}(at + ${8 * v}u, ${value(i, v)});`, " ")} }`,
  );
}

/** Combines a value of the eight threads that share rows, in a fixed order. */
export function shared(variable: string, combine: (a: string, b: string) => string): string {
  return unroll(3, (n) => `${variable} = ${combine(variable, `subgroupShuffleXor(${variable}, ${1 << n}u)`)};`, " ");
}

/** Walks the steps; `body` finds the first row of each in `j0`. All threads are together before and behind it. */
export function walk(body: string): string {
  return `for (var j0 = 0u; j0 <= last; j0 += ${STEP}u) {
${body}
workgroupBarrier();
}`;
}

/** First of the thread's four rows of a step. */
export const COLUMN = "j0 + 4u * tx";

/**
 * In scope of a pass: `head` (of all batches), `statistics`, `origin`, `row0`, `last`, `tx`, `ty`, `scale2` and the own
 * rows staged.
 */
function place(tile: StagedRows, { own }: StagedPass): string {
  const { headDim, rows } = tile;
  return `if (wg >= params.units) { return; }
let head = wg / params.tiles;
let row0 = wg % params.tiles * ${rows}u;
let last = params.sequence - 1u;
let origin = head / params.heads * params.sequence * params.stride4 + head % params.heads * ${headDim / 4}u;
let statistics = ${HEAD_STATISTICS};
let tx = li % ${ACROSS}u;
let ty = li / ${ACROSS}u;
let scale2 = params.scale * ${Math.LOG2E};
${own.map((name) => transposed(tile, name, `${name}_own`, "row0", rows)).join("\n")}
workgroupBarrier();`;
}

/** The launch of a pass over all rows of all heads. */
export function launchStaged(
  pass: Pass,
  staged: StagedPass,
  tile: StagedRows,
  spec: AttentionSpec,
  { batch, heads, sequence, scale }: AttentionShape,
): Launch {
  const { headDim, rows } = tile;
  const tiles = Math.ceil(sequence / rows);
  const units = tiles * batch * heads;
  const array = (name: string, elements: number) => `var<workgroup> ${name}: array<vec4f, ${elements / 4}>;`;
  return {
    kernel: buildKernel({
      name: `${pass.name}_staged`,
      spec: { dtype: spec.dtype, ...tile },
      params: ["sequence", "heads", "stride4", "tiles", "units", "scale:f32"],
      buffers: passBuffers(pass, spec),
      workgroupSize: threadsOf(tile),
      declarations: () =>
        [
          ...staged.own.map((name) => array(`${name}_own`, rows * headDim)),
          array("stage", STEP * headDim),
          array("weights", STEP * rows),
        ].join("\n"),
      body: () => `${place(tile, staged)}\n${staged.body(tile)}`,
    }),
    params: [sequence, heads, heads * headDim / 4, tiles, units, scale],
    grid: foldGrid(units),
    flops: 2 * pass.products * batch * heads * sequence * sequence * headDim,
  };
}
