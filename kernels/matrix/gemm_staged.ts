/**
 * Matrix products through workgroup memory, for GPUs without reachable matrix units. A workgroup owns a tile of C. Step
 * by step along the depth its threads copy a stage of both operands to workgroup memory, and each multiplies the rows
 * and columns it owns from there; the next stage is fetched into registers meanwhile.
 *
 * Packed tiles stage f16: every line (row of A, column of B) has a power of two for each stage, so that nothing
 * overflows whatever other lines hold. Products of {@linkcode CHAIN} depths are summed in f16, which many GPUs compute
 * two at a time, and those sums in f32. The other tiles use no subgroup operation: every subgroup size computes the
 * same.
 */
import type { Target } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import type { GemmText } from "./gemm_launch.ts";
import { type Extent, type GemmSpec, type Layout, preferTile } from "./gemm_shape.ts";

/** The part of C that a workgroup owns and how it is shared. */
export interface StagedTile {
  readonly rows: number;
  readonly columns: number;
  /** Depth of a stage. */
  readonly depth: number;
  /**
   * Groups of four rows, and of four columns, per thread. Groups lie far apart, so that neighbouring threads read
   * neighbours.
   */
  readonly rowGroups: number;
  readonly columnGroups: number;
  /** Stages in workgroup memory: with two, one barrier a stage suffices. */
  readonly buffers: 1 | 2;
  /** Whether f16 is staged and multiplied; a line of a stage then has at most eight groups of depths. */
  readonly packed: boolean;
}

/**
 * Depths that packed tiles sum in f16. Rounding n terms of random signs costs 2e-4 sqrt(n / 2) of their sum, beside
 * 3e-4 for operands of 11 bits: 16 depths exceed 2^-10 in rows of few columns. A flush costs three f32 operations.
 */
export const CHAIN = 8;

/** Exponent at which packed tiles put the largest number of a line: eight products of two of them stay in f16. */
const AIM = 5;

const eight = { rowGroups: 2, columnGroups: 2, depth: 16, buffers: 2, packed: false } as const;

/**
 * Tiles staged in workgroup memory, the largest first. 128 x 128 reads each element from L2 once per 128 products, 32
 * FLOP a byte of f32; smaller ones fill a card with less work. Rates on GPUs: not yet measured.
 */
export const STAGED_TILES: readonly { readonly name: string; readonly tile: StagedTile }[] = [
  { name: "staged 128x128", tile: { rows: 128, columns: 128, ...eight } },
  { name: "staged 128x64", tile: { rows: 128, columns: 64, ...eight } },
  { name: "staged 64x64", tile: { rows: 64, columns: 64, ...eight } },
  { name: "staged 32x64", tile: { ...eight, rows: 32, columns: 64, rowGroups: 1 } },
  // Threads that hold the same lines are neighbours, and all of them copy as much of both operands. Cards that compute
  // f16 no faster than f32 gain little, so only a measurement chooses these.
  { name: "packed 128x128", tile: { rows: 128, columns: 128, ...eight, depth: 32, buffers: 1, packed: true } },
  { name: "packed 64x64", tile: { rows: 64, columns: 64, ...eight, packed: true } },
];

/** Whether a device runs a tile. Packed ones round operands, and share scales by exchanges among eight lanes. */
export function stagedRuns({ mixed, f16, subgroups, workgroupBytes }: Target, tile: StagedTile): boolean {
  return stagedBytes(tile) <= workgroupBytes && (!tile.packed || (mixed && f16 && subgroups > 0));
}

/** Name of the tile that suits a result of m x n; undefined where none fits into workgroup memory. */
export function stagedName(target: Target, extent: Pick<Extent, "m" | "n">): string | undefined {
  return preferTile(
    STAGED_TILES.filter(({ tile }) => !tile.packed && stagedRuns(target, tile))
      .map(({ name, tile: { rows, columns } }) => ({ name, rows, columns })),
    extent,
  );
}

/** Threads of a workgroup. */
export function stagedThreads(tile: StagedTile): number {
  const { down, across } = threadsOf(tile);
  return down * across;
}

/** Threads along the rows and along the columns of a tile, multiples of eight. */
function threadsOf({ rows, columns, rowGroups, columnGroups }: StagedTile): { down: number; across: number } {
  return { down: rows / (4 * rowGroups), across: columns / (4 * columnGroups) };
}

/** Groups of four of a stage. */
function stageSize({ depth }: StagedTile, width: number): number {
  return depth * width / 4;
}

/**
 * Line group `line` of the depths 4 `deep` to 4 `deep` + 3 lies at `line` with its low bits flipped by `deep`: of eight
 * threads that store 16 bytes at a time, four hold neighbouring depths of the same lines, and so they meet eight
 * different banks.
 */
function flipped(line: string): string {
  return `((${line}) ^ (2u * (deep & 3u)))`;
}

/** Workgroup memory of a tile: both stages, and where they are packed the scales of their lines. */
export function stagedBytes(tile: StagedTile): number {
  const { rows, columns, buffers, packed } = tile;
  const groups = stageSize(tile, rows) + stageSize(tile, columns);
  return buffers * (packed ? 8 * groups + 4 * (rows + columns) : 16 * groups);
}

/** An operand as stages see it: its lines are rows of A, or columns of B. */
export interface StagedOperand {
  readonly name: "a" | "b";
  /** Lines of a stage. */
  readonly width: number;
  /** Whether four neighbours in memory are four depths of a line, or four lines at one depth. */
  readonly alongDepth: boolean;
}

function operandsOf(layout: Layout, { rows, columns }: StagedTile): readonly StagedOperand[] {
  return [
    { name: "a", width: rows, alongDepth: layout !== "TN" },
    { name: "b", width: columns, alongDepth: layout === "NT" },
  ];
}

/** Blocks of 4 lines by 4 depths, what a thread copies at a time. */
function blocksOf({ depth }: StagedTile, { width }: StagedOperand): number {
  return width * depth / 16;
}

/** Line group and depth group of block `block`: threads that are neighbours read neighbours. */
function placeOf({ depth, packed }: StagedTile, { width, alongDepth }: StagedOperand): { line: string; deep: string } {
  return alongDepth || packed
    ? { line: `block / ${depth / 4}u`, deep: `block % ${depth / 4}u` }
    : { line: `block % ${width / 4}u`, deep: `block / ${width / 4}u` };
}

/**
 * `fetch_X(block, first, k4)`: block number `block` of the stage that begins at line group `first` and depth group
 * `k4`; its columns are depths, four lines each. Lines past the edge read the last ones, depths past `end` are zero.
 */
function fetchText(
  layout: Layout,
  { name, alongDepth }: StagedOperand,
  { line, deep }: { readonly line: string; readonly deep: string },
): string {
  const loader = name.toUpperCase();
  const lines = name === "a" ? "params.m" : "(4u * params.n4)";
  const place = `let line4 = first + ${line};
  let d4 = k4 + ${deep};`;
  if (alongDepth) {
    const column = (q: number) =>
      `select(vec4f(0), load_${loader}(min(4u * line4 + ${q}u, ${lines} - 1u), min(d4, params.k4 - 1u)), d4 < end)`;
    return `fn fetch_${name}(block: u32, first: u32, k4: u32, end: u32) -> mat4x4f {
  ${place}
  return transpose(mat4x4f(${unroll(4, column, ", ")}));
}`;
  }
  // In layout TN the depth may end inside a group of four.
  const inside = (q: number) => layout === "TN" ? `d4 < end && 4u * d4 + ${q}u < params.k` : "d4 < end";
  const column = (q: number) =>
    `select(vec4f(0), load_${loader}(min(4u * d4 + ${q}u, params.k - 1u), min(line4, ${lines} / 4u - 1u)), ${
      inside(q)
    })`;
  return `fn fetch_${name}(block: u32, first: u32, k4: u32, end: u32) -> mat4x4f {
  ${place}
  return mat4x4f(${unroll(4, column, ", ")});
}`;
}

/** `keep_X(block, buffer, part)`: stores a fetched block. */
function keepText(tile: StagedTile, operand: StagedOperand): string {
  const { name, width } = operand;
  const { line, deep } = placeOf(tile, operand);
  if (tile.packed) return keepPacked(tile, operand);
  return `fn keep_${name}(block: u32, buffer: u32, part: mat4x4f) {
  let deep = ${deep};
  let at = buffer * ${stageSize(tile, width)}u + deep * ${width}u + ${flipped(line)};
${unroll(4, (q) => `  ${name}_stage[at + ${q * width / 4}u] = part[${q}];`)}
}`;
}

/**
 * {@linkcode keepText} of a packed tile: the threads that hold a line agree on its scale, and the first of them keeps
 * it.
 */
function keepPacked(tile: StagedTile, operand: StagedOperand): string {
  const { name, width } = operand;
  const { line, deep } = placeOf(tile, operand);
  const exchanges = Math.log2(tile.depth / 4);
  return `fn keep_${name}(block: u32, buffer: u32, part: mat4x4f) {
  let deep = ${deep};
  var top = max(max(abs(part[0]), abs(part[1])), max(abs(part[2]), abs(part[3])));
${unroll(exchanges, (n) => `  top = max(top, subgroupShuffleXor(top, ${1 << n}u));`)}
  let exponent = clamp(vec4i(bitcast<vec4u>(top) >> vec4u(23u)) - ${127 + AIM}, vec4i(-126), vec4i(126));
  let factor = bitcast<vec4f>(vec4u(127 - exponent) << vec4u(23u));
  let at = buffer * ${stageSize(tile, width)}u + deep * ${width}u + ${flipped(line)};
${unroll(4, (q) => `  ${name}_stage[at + ${q * width / 4}u] = vec4<f16>(part[${q}] * factor);`)}
  if (deep == 0u) {
    ${name}_scale[buffer * ${width / 4}u + ${line}] = bitcast<vec4f>(vec4u(exponent + 127) << vec4u(23u));
  }
}`;
}

/** A share of the copying: which blocks of which operand a thread takes. */
interface Share {
  readonly operand: StagedOperand;
  /** The thread's block; threads outside `from` to `to` have none. */
  readonly block: string;
  readonly from: number;
  readonly to: number;
}

/** Divides the blocks of both operands among the threads, every thread taking as many. */
function sharesOf(layout: Layout, tile: StagedTile): readonly (readonly Share[])[] {
  const threads = stagedThreads(tile);
  const rounds: Share[][] = [];
  let at = 0;
  for (const operand of operandsOf(layout, tile)) {
    const blocks = blocksOf(tile, operand);
    for (let done = 0; done < blocks;) {
      const round = Math.floor(at / threads);
      const from = at % threads;
      const to = Math.min(threads, from + blocks - done);
      (rounds[round] ??= []).push({ operand, block: `(li + ${done}u - ${from}u)`, from, to });
      done += to - from;
      at += to - from;
    }
  }
  return rounds;
}

/** Calls `text` for the share of every round that the thread has, chosen by its number where a round has several. */
function eachShare(layout: Layout, tile: StagedTile, text: (share: Share, round: number) => string): string {
  const threads = stagedThreads(tile);
  return sharesOf(layout, tile).map((round, i) =>
    round.map((share) => {
      return share.to - share.from === threads
        ? text(share, i)
        : `if (li >= ${share.from}u && li < ${share.to}u) { ${text(share, i)} }`;
    }).join("\n")
  ).join("\n");
}

const first = ({ name }: StagedOperand): string => name === "a" ? "m4" : "n4";

/**
 * Multiplies one stage: at every depth each thread reads its groups of rows and columns. Four depths are unrolled: the
 * counter that naga puts into a loop then costs one instruction per hundred multiply-adds, and the text stays small
 * enough to compile quickly.
 */
function multiplyText(tile: StagedTile): string {
  const { rows, columns, depth, rowGroups, columnGroups, packed } = tile;
  const { down, across } = threadsOf(tile);
  const each = (text: (i: number, j: number) => string) =>
    unroll(4 * rowGroups, (i) => unroll(columnGroups, (j) => text(i, j), " "));
  const products = each((i, j) => {
    const [left, right] = [`a${i >> 2}[${i & 3}]`, `b${j}`];
    return packed
      ? `h${i}_${j} = fma(vec4<f16>(${left}), ${right}, h${i}_${j});`
      : `c${i}_${j} = c${i}_${j} + ${left} * ${right};`;
  });
  const walk = (from: string, to: string) =>
    `for (var deep = ${from}; deep < ${to}; deep++) {
let a_at = buffer * ${stageSize(tile, rows)}u + deep * ${rows}u + ${flipped("ty")};
let b_at = buffer * ${stageSize(tile, columns)}u + deep * ${columns}u + ${flipped("tx")};
${
      unroll(4, (q) =>
        `{
${unroll(rowGroups, (g) => `let a${g} = a_stage[a_at + ${q * rows / 4 + g * down}u];`)}
${unroll(columnGroups, (j) => `let b${j} = b_stage[b_at + ${q * columns / 4 + j * across}u];`)}
${products}
}`)
    }
}`;
  if (!packed) return walk("0u", `${depth / 4}u`);
  const scale = (name: string, width: number, at: string) => `${name}_scale[buffer * ${width / 4}u + ${at}]`;
  return `for (var chain = 0u; chain < ${depth / 4}u; chain += ${CHAIN / 4}u) {
${each((i, j) => `var h${i}_${j} = vec4<f16>();`)}
${walk("chain", `chain + ${CHAIN / 4}u`)}
${unroll(rowGroups, (g) => `let a_factor${g} = ${scale("a", rows, `ty + ${g * down}u`)};`)}
${unroll(columnGroups, (j) => `let b_factor${j} = ${scale("b", columns, `tx + ${j * across}u`)};`)}
${each((i, j) => `c${i}_${j} = c${i}_${j} + vec4f(h${i}_${j}) * b_factor${j} * a_factor${i >> 2}[${i & 3}];`)}
}`;
}

/**
 * Sums over the depths `k_first` to `k_end` of the tile whose first groups are `m4` and `n4`; `tx` and `ty` are the
 * thread's place in it.
 */
export function stagedSums(layout: Layout, tile: StagedTile): string {
  const { depth, rowGroups, columnGroups, buffers } = tile;
  const fetch = (k4: string) =>
    eachShare(
      layout,
      tile,
      ({ operand, block }, i) => `part${i} = fetch_${operand.name}(${block}, ${first(operand)}, ${k4}, k_end);`,
    );
  const keep = eachShare(layout, tile, ({ operand, block }, i) => `keep_${operand.name}(${block}, buffer, part${i});`);
  const { across } = threadsOf(tile);
  return `let tx = li % ${across}u;
let ty = li / ${across}u;
${unroll(4 * rowGroups, (i) => unroll(columnGroups, (j) => `var c${i}_${j} = vec4f(0);`, " "))}
${unroll(sharesOf(layout, tile).length, (i) => `var part${i} = mat4x4f();`)}
var buffer = 0u;
${fetch("k_first")}
for (var k4 = k_first; k4 < k_end; k4 += ${depth / 4}u) {
${keep}
workgroupBarrier();
${fetch(`k4 + ${depth / 4}u`)}
${multiplyText(tile)}
${buffers === 2 ? "buffer = 1u - buffer;" : "workgroupBarrier();"}
}`;
}

/**
 * What happens to the sums: `text(row, sum)` for every row of a column group, inside the bounds and with `column` in
 * scope.
 */
export function stagedResults(
  tile: StagedTile,
  bounds: { readonly rows: string; readonly columns4: string },
  before: string,
  text: (row: string, sum: string) => string,
): string {
  const { rowGroups, columnGroups } = tile;
  const { down, across } = threadsOf(tile);
  const rowOf = (i: number) => `4u * (m4 + ty + ${(i >> 2) * down}u) + ${i & 3}u`;
  return unroll(columnGroups, (j) =>
    `{ let column = n4 + tx + ${j * across}u;
if (column < ${bounds.columns4}) {
${before}
${unroll(4 * rowGroups, (i) => `if (${rowOf(i)} < ${bounds.rows}) { ${text(rowOf(i), `c${i}_${j}`)} }`)}
} }`);
}

/** Workgroup variables, and the functions that fill them: the given ones, and those that keep what they fetch. */
export function stagedDeclarations(
  layout: Layout,
  tile: StagedTile,
  fetchText: (operand: StagedOperand, place: { readonly line: string; readonly deep: string }) => string,
): string {
  return operandsOf(layout, tile).flatMap((operand) => [
    `var<workgroup> ${operand.name}_stage: array<${tile.packed ? "vec4<f16>" : "vec4f"}, ${
      tile.buffers * stageSize(tile, operand.width)
    }>;`,
    tile.packed ? `var<workgroup> ${operand.name}_scale: array<vec4f, ${tile.buffers * operand.width / 4}>;` : "",
    fetchText(operand, placeOf(tile, operand)),
    keepText(tile, operand),
  ]).join("\n");
}

function stagedBody(layout: Layout, tile: StagedTile, bias: boolean): string {
  const { rows, columns } = tile;
  return `if (wg >= params.tiles * params.parts) { return; }
let part = wg / params.tiles;
let number = wg % params.tiles;
let m4 = number / params.across * ${rows / 4}u;
let n4 = number % params.across * ${columns / 4}u;
let k_first = part * params.depth;
let k_end = min(k_first + params.depth, params.k4);
${stagedSums(layout, tile)}
${
    stagedResults(
      tile,
      { rows: "params.m", columns4: "params.n4" },
      `let shift = ${bias ? "load_bias(column)" : "vec4f(0)"};`,
      (row, sum) => `finish(part, ${row}, column, ${sum}, shift);`,
    )
  }`;
}

/** The text of a tile. */
export function stagedText({ layout }: GemmSpec, tile: StagedTile): GemmText {
  return {
    name: "gemm_staged",
    tile: { ...tile },
    workgroupSize: stagedThreads(tile),
    rows: tile.rows,
    columns: tile.columns,
    declarations: () => stagedDeclarations(layout, tile, (operand, place) => fetchText(layout, operand, place)),
    body: (bias) => stagedBody(layout, tile, bias),
  };
}
