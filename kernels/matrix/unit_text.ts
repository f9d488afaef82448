/**
 * The text of a product on matrix units. A workgroup owns a tile of C. Step by step along the depth its threads copy a
 * stage of both operands to workgroup memory as f16, scaled line by line (kernels/core/half_scales.ts), and its
 * subgroups multiply them into sums that stay in registers. The next stage is fetched into registers while this one is
 * multiplied.
 */
import type { DType } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import { addProduct, emptySum, loadLeft, loadRight, type Major, paddedStride, passSums } from "../core/units.ts";
import { FIRST_EXPONENT, MOST, scaleDeclarations } from "../core/half_scales.ts";
import { stageSize, unitThreads, type UnitTile } from "./unit_tile.ts";

/** One operand of a product: how a thread finds the groups of four elements that it stages. */
export interface Operand {
  readonly name: "a" | "b";
  /** The index that neighbours of a group differ in: the depth, or the row of A (column of B). */
  readonly along: "depth" | "width";
  readonly dtype: DType;
  /**
   * Declares what all steps share. In scope: `m0`, `n0`, `first4`, and the thread's place, `{name}_line` and
   * `{name}_four`.
   */
  readonly setup: string;
  /** Loads the thread's groups of the stage at depth `4 * d4` into `{name}0` and so on. */
  readonly fetch: string;
  /** Whether group i lies inside the part of the depth, where `fetch` does not see to zeros itself. */
  readonly inside?: (i: number) => string;
}

/** f16 is staged as it is stored. */
function isScaled({ dtype }: Operand): boolean {
  return dtype !== "f16";
}

/**
 * Sizes of one operand's stage, and how the threads share it: thread `li` has group `li % fours` of every `step`-th
 * line.
 */
export interface Stage {
  readonly width: number;
  readonly size: number;
  readonly stride: number;
  /** Groups of four elements of a line of storage: a row of A along its depth, or one depth of all rows. */
  readonly fours: number;
  readonly step: number;
  /** Groups per thread. */
  readonly groups: number;
}

/** The stage of an operand. */
export function stageOf(tile: UnitTile, { name, along }: Pick<Operand, "name" | "along">): Stage {
  const width = name === "a" ? tile.rows : tile.columns;
  const length = along === "depth" ? tile.depth : width;
  return {
    width,
    size: stageSize(tile, width, along),
    stride: paddedStride(length),
    fours: length / 4,
    step: unitThreads(tile) * 4 / length,
    groups: width * tile.depth / 4 / unitThreads(tile),
  };
}

/** A tile and what fills it. */
export interface UnitProduct {
  readonly tile: UnitTile;
  readonly a: Operand;
  readonly b: Operand;
}

/** Index of the first scale of an operand. */
function firstLine({ tile, a }: UnitProduct, { name }: Operand): number {
  return name === "b" && isScaled(a) ? tile.rows : 0;
}

function scaledLines({ tile, a, b }: UnitProduct): number {
  return (isScaled(a) ? tile.rows : 0) + (isScaled(b) ? tile.columns : 0);
}

/** Workgroup variables and what handles scales. */
export function unitDeclarations(product: UnitProduct): string {
  const { tile, a, b } = product;
  const { m, n, down, across, buffers } = tile;
  const lines = scaledLines(product);
  return [
    ...[a, b].map((operand) =>
      `var<workgroup> ${operand.name}_stage: array<f16, ${buffers * stageOf(tile, operand).size}>;`
    ),
    `var<workgroup> sums: array<f32, ${down * across * m * n}>;`,
    lines === 0 ? "" : scaleDeclarations(lines),
  ].join("\n");
}

/** The thread's place in an operand's stage, its scales and the registers of the fetched stage. */
function prepare({ tile }: UnitProduct, operand: Operand): string {
  const { name, along, dtype, setup } = operand;
  const { groups, fours } = stageOf(tile, operand);
  const scales = along === "depth"
    ? unroll(groups, (i) => `var ${name}_scale${i} = first_scale;`, " ")
    : `var ${name}_scale = vec4f(first_scale);`;
  return `let ${name}_four = li % ${fours}u;
let ${name}_line = li / ${fours}u;
${setup}
${isScaled(operand) ? scales : ""}
${unroll(groups, (i) => `var ${name}${i} = ${dtype === "f16" ? "vec4<f16>()" : "vec4f()"};`, " ")}`;
}

/** Copies the fetched groups to the stage, and records numbers that are too large for their scale. */
function put(product: UnitProduct, operand: Operand): string {
  const { tile } = product;
  const { name, along, inside } = operand;
  const { groups, step, stride, size } = stageOf(tile, operand);
  const each = (text: (i: number) => string) => unroll(groups, text);
  const largest = (value: (i: number) => string) =>
    Array.from({ length: groups }, (_, i) => `abs(${value(i)})`).reduce((a, b) => `max(${a}, ${b})`);
  const line = firstLine(product, operand);
  const factor = (i: number) => {
    const [zero, scale] = along === "depth" ? ["0.0", `${name}_scale${i}`] : ["vec4f(0)", `${name}_scale`];
    return inside === undefined ? scale : `select(${zero}, ${scale}, ${inside(i)})`;
  };
  const half = (i: number) => inside === undefined ? `${name}${i}` : `select(vec4<f16>(), ${name}${i}, ${inside(i)})`;
  const records = along === "depth"
    ? each((i) => `grow(${name}_line + ${line + i * step}u, largest(${name}${i}));`)
    : `let top = ${largest((i) => `${name}${i}`)};
${unroll(4, (q) => `grow(${name}_four * 4u + ${line + q}u, top[${q}]);`)}`;
  return `{
${
    isScaled(operand)
      ? each((i) => `let t${i} = ${name}${i} * ${factor(i)}; let h${i} = vec4<f16>(t${i});`)
      : each((i) => `let h${i} = ${half(i)};`)
  }
let at = ${tile.buffers === 2 ? `stage * ${size}u + ` : ""}${name}_line * ${stride}u + ${name}_four * 4u;
${each((i) => unroll(4, (q) => `${name}_stage[at + ${i * step * stride + q}u] = h${i}[${q}];`, " "))}
${
    isScaled(operand)
      ? `if (largest(${largest((i) => `t${i}`)}) > ${MOST}) {
${records}
atomicStore(&grown, 1u);
}`
      : ""
  }
}`;
}

/** Reads the thread's scales, which `settle` changed. */
function readScales(product: UnitProduct, operand: Operand): string {
  if (!isScaled(operand)) return "";
  const { name, along } = operand;
  const { groups, step } = stageOf(product.tile, operand);
  const line = firstLine(product, operand);
  return along === "depth"
    ? unroll(groups, (i) => `${name}_scale${i} = power(exponents[${name}_line + ${line + i * step}u]);`)
    : `${name}_scale = powers(vec4i(${unroll(4, (q) => `exponents[${name}_four * 4u + ${line + q}u]`, ", ")}));`;
}

/** Matrices of a subgroup along the rows and columns of its part of the tile. */
function unitsOf({ rows, columns, down, across, m, n }: UnitTile): { readonly tall: number; readonly wide: number } {
  return { tall: rows / down / m, wide: columns / across / n };
}

function multiply({ tile, a, b }: UnitProduct): string {
  const { m, n, k, depth, down, across } = tile;
  const { tall, wide } = unitsOf(tile);
  const place = (operand: Operand) => {
    const { size, stride } = stageOf(tile, operand);
    const base = tile.buffers === 2 ? `stage * ${size}u + ` : "";
    // Offset of unit i at depth q; a stage along the depth holds rows of A (columns of B), one across holds depths.
    const offset = (first: string, unit: number, q: number) =>
      operand.along === "depth"
        ? `${base}${first} * ${stride}u + ${unit * stride + q}u`
        : `${base}${first} + ${q * stride + unit}u`;
    const straight = operand.name === "a" ? "depth" : "width";
    const major: Major = operand.along === straight ? "row_major" : "col_major";
    return { offset, major, stride };
  };
  const [left, right] = [place(a), place(b)];
  const leftAt = (i: number, s: number) => left.offset("first_row", i * m, s * k);
  const rightAt = (j: number, s: number) => right.offset("first_column", j * n, s * k);
  return `if (subgroup_id < ${down * across}u) {
${
    unroll(depth / k, (s) =>
      `{
${unroll(tall, (i) => `let left${i} = ${loadLeft(tile, "a_stage", leftAt(i, s), left.major, left.stride)};`)}
${
        unroll(wide, (j) =>
          `{ let right = ${loadRight(tile, "b_stage", rightAt(j, s), right.major, right.stride)};
${unroll(tall, (i) => addProduct(`sum${i}_${j}`, `left${i}`, "right"))} }`)
      }
}`)
  }
}`;
}

/**
 * Passes all sums through workgroup memory. In scope of `work`: a group of four elements `v` of the sums, its `row` and
 * `column` in the tile, and the index `e` of the group.
 */
function passTile(tile: UnitTile, work: string, returns: boolean): string {
  const { m, n, down, across, rows, columns } = tile;
  const { tall, wide } = unitsOf(tile);
  const sums = Array.from({ length: tall * wide }, (_, u) => `sum${Math.floor(u / wide)}_${u % wide}`);
  return passSums(tile, down * across, sums, {
    work: `for (var e = li; e < ${down * across * m * n / 4}u; e += ${unitThreads(tile)}u) {
let owner = e / ${m * n / 4}u;
let row = owner / ${across}u * ${rows / down}u + unit / ${wide}u * ${m}u + e % ${m * n / 4}u / ${n / 4}u;
let column = owner % ${across}u * ${columns / across}u + unit % ${wide}u * ${n}u + e % ${n / 4}u * 4u;
let v = vec4f(${unroll(4, (q) => `sums[4u * e + ${q}u]`, ", ")});
${work}
}`,
    returns,
  });
}

/** Entries of a table of scales that belong to a group of sums: its row's and its columns'. */
function scalesOf(product: UnitProduct, table: string): { readonly row: string; readonly columns: string } {
  const line = firstLine(product, product.b);
  return {
    row: isScaled(product.a) ? `${table}[row]` : "0",
    columns: isScaled(product.b) ? `vec4i(${unroll(4, (q) => `${table}[column + ${line + q}u]`, ", ")})` : "vec4i(0)",
  };
}

/**
 * Settles the scales that numbers of this stage outgrew: the sums so far follow, and the stage is written once more.
 */
function settleScales(product: UnitProduct): string {
  const { tile, a, b } = product;
  const { row, columns } = scalesOf(product, "shifts");
  return `let outgrown = workgroupUniformLoad(&grown) != 0u;
// Once a stage is enough: what is too large for every scale is infinite.
settled = outgrown && !settled;
if (settled) {
for (var line = li; line < ${scaledLines(product)}u; line += ${unitThreads(tile)}u) { settle(line); }
if (li == 0u) { atomicStore(&grown, 0u); }
workgroupBarrier();
${readScales(product, a)}
${readScales(product, b)}
if (d4 > first4) {
${
    passTile(
      tile,
      `let s = v * power(${row}) * powers(${columns});
${unroll(4, (q) => `sums[4u * e + ${q}u] = s[${q}];`, " ")}`,
      true,
    )
  }
}
continue;
}`;
}

/** Hands the sums, scaled back, to `finish`. */
function finishSums(product: UnitProduct, bias: boolean): string {
  const { row, columns } = scalesOf(product, "exponents");
  const scaled = `let e = vec4i(-(${row})) - ${columns};
// In two steps, as the power itself may lie outside f32 although the result does not.
let half = e >> vec4u(1u);
let sum = v * powers(half) * powers(e - half);`;
  return passTile(
    product.tile,
    `let col4 = n0 / 4u + column / 4u;
if (m0 + row < params.m && col4 < params.n4) {
${scaledLines(product) === 0 ? "let sum = v;" : scaled}
finish(part, m0 + row, col4, sum, ${bias ? "load_bias(col4)" : "vec4f(0)"});
}`,
    false,
  );
}

/**
 * Row tiles that are walked before the next column of tiles: workgroups that run together then share rows of A and
 * columns of B.
 */
const BAND = 8;

/** What differs between kernels around the same product. */
export interface UnitKernel {
  /** Whether columns have a bias, `load_bias`. */
  readonly bias: boolean;
  /** Whether workgroups divide the depth into `params.parts` parts of `params.depth` groups of four. */
  readonly parts: boolean;
}

/**
 * Body of the kernel: finds the tile among `params.tiles`, sums over the depth from `4 * first4` to `4 * last4`, and
 * hands every four columns inside C to `finish(part, row, col4, sum, shift)`.
 */
export function unitBody(product: UnitProduct, { bias, parts }: UnitKernel): string {
  const { tile, a, b } = product;
  const { down, across, rows, columns, depth, buffers } = tile;
  const { tall, wide } = unitsOf(tile);
  const lines = scaledLines(product);
  const both = (text: (product: UnitProduct, operand: Operand) => string) => `${text(product, a)}\n${text(product, b)}`;
  const place = parts
    ? `if (wg >= params.tiles * params.parts) { return; }
let part = wg / params.tiles;
let number = wg % params.tiles;
let first4 = part * params.depth;
let last4 = min(first4 + params.depth, params.k4);`
    : `if (wg >= params.tiles) { return; }
let part = 0u;
let number = wg;
let first4 = 0u;
let last4 = params.k4;`;
  return `${place}
let band = number / (${BAND}u * params.across);
let height = min(${BAND}u, params.tiles / params.across - band * ${BAND}u);
let in_band = number % (${BAND}u * params.across);
let m0 = (band * ${BAND}u + in_band % height) * ${rows}u;
let n0 = in_band / height * ${columns}u;
let first_row = subgroup_id / ${across}u * ${rows / down}u;
let first_column = subgroup_id % ${across}u * ${columns / across}u;
let last = min(4u * last4, params.k);
${
    lines === 0 ? "" : `let first_scale = power(${FIRST_EXPONENT});
for (var line = li; line < ${lines}u; line += ${unitThreads(tile)}u) { exponents[line] = ${FIRST_EXPONENT}; }
var settled = false;`
  }
var d4 = first4;
${buffers === 2 ? "var stage = 0u;" : ""}
${both(prepare)}
${unroll(tall, (i) => unroll(wide, (j) => emptySum(tile, `sum${i}_${j}`)))}
${both((_, { fetch }) => fetch)}
while (d4 < last4) {
${both(put)}
${lines === 0 ? "workgroupBarrier();" : settleScales(product)}
d4 += ${depth / 4}u;
if (d4 < last4) {
${both((_, { fetch }) => fetch)}
}
${multiply(product)}
${buffers === 2 ? "stage = 1u - stage;" : "workgroupBarrier();"}
}
workgroupBarrier();
${finishSums(product, bias)}`;
}
