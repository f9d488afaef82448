/**
 * Gradients of gamma and beta of the norm of heads, in two stages with a fixed order: eight lanes add the heads of a
 * part of the rows, then the parts are added.
 */
import { type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { type Family, solve } from "../core/variants.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { hasSubgroups, LANES, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import {
  each,
  gradient,
  HEAD_CHANNELS,
  HEAD_VECTORS,
  type HeadNormShape,
  LOAD_ANGLES,
  NORMALISE,
  PARAMS,
  paramValues,
  ROTATE,
  tables,
  VECTORS,
} from "./head_text.ts";
import { probeRows } from "./rows.ts";

/** Type of the rows, and whether their gradients are rotated back first. */
export interface HeadColumnsSpec {
  readonly dtype: DType;
  readonly rotate: boolean;
}

/** How the heads of a part of the rows are shared out. */
interface Way {
  /** Stable, as tables of choices hold it. */
  readonly name: string;
  /** Heads of a part that a group of lanes walks. */
  heads(shape: HeadNormShape): number;
  /** Parts that a thread of the second stage loads before it adds the first. */
  readonly ahead: number;
}

/**
 * Groups of eight lanes that keep a card busy: half of what an H100 holds. A clip of 49 frames has 1,111 parts of rows,
 * with which each group would wait for 48 heads of 16 rows, one after the other. Not yet measured.
 */
const BUSY_GROUPS = 16384;

const ROWS: Way = { name: "rows", heads: ({ heads }) => heads, ahead: 1 };
const HEADS: Way = {
  name: "heads",
  heads: (shape) => Math.ceil(shape.heads * Math.min(1, rowParts(shape) / BUSY_GROUPS)),
  ahead: 8,
};
const WAYS: readonly Way[] = [ROWS, HEADS];

/** Rows of a part: few enough for the 65,535 loop iterations of Mesa 22.3 at 48 heads. */
function rowsPerPart(rows: number): number {
  return Math.min(1024, Math.max(16, Math.ceil(rows / 4096)));
}

function rowParts({ rows }: HeadNormShape): number {
  return Math.ceil(rows / rowsPerPart(rows));
}

/** Groups that share the heads of a part of the rows. */
function splitsOf(way: Way, shape: HeadNormShape): number {
  return Math.ceil(shape.heads / way.heads(shape));
}

/** Parts of rows times those of their heads: partials are f32 [parts, 2, 64], dGamma, then dBeta. */
function partsOf(way: Way, shape: HeadNormShape): number {
  return rowParts(shape) * splitsOf(way, shape);
}

/** First stage: buffers x (before the norm), g, partials and, when rotating, cosines and sines. */
function partials(way: Way, target: Target, { dtype, rotate }: HeadColumnsSpec, shape: HeadNormShape): Launch {
  const parts = partsOf(way, shape);
  const isSplit = way !== ROWS;
  // Lanes reach the sums together: every group goes through as many heads, and counts those past the last as 0.
  const loop = isSplit
    ? `for (var i_head = 0u; i_head < params.share; i_head++) {
    let own_head = part % params.splits * params.share + i_head;
    let h = min(own_head, params.heads - 1u);
    let counted = select(0.0, live, own_head < params.heads);`
    : `for (var h = 0u; h < params.heads; h++) {
    let counted = live;`;
  return {
    kernel: buildKernel({
      name: "head_norm_columns",
      spec: { dtype, rotate, way: way.name, subgroups: hasSubgroups(target) },
      params: [...PARAMS, "parts", "length", ...(isSplit ? ["splits", "share"] : [])],
      buffers: [{ name: "x", dtype }, { name: "g", dtype }, { name: "partials", dtype: "f32" }, ...tables(rotate)],
      workgroupSize: THREADS,
      declarations: laneSums(target) + (rotate ? `\n${ROTATE}` : ""),
      body: `  let part = gid / ${LANES}u;
  let l = gid % ${LANES}u;
  let own = l * ${VECTORS}u;
  let row_part = ${isSplit ? "part / params.splits" : "part"};
${each((j) => `  var gamma${j} = vec4f(0); var beta${j} = vec4f(0);`)}
  for (var i = 0u; i < params.length; i++) {
  let live = select(0.0, 1.0, part < params.parts && row_part * params.length + i < params.rows);
  let row = min(row_part * params.length + i, params.rows - 1u);
${rotate ? LOAD_ANGLES : ""}
  ${loop}
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${NORMALISE}
${
        each((j) =>
          `    let g${j} = ${gradient(j, rotate)} * counted;
    gamma${j} = gamma${j} + g${j} * v${j} * rs;
    beta${j} = beta${j} + g${j};`
        )
      }
  }
  }
  if (part < params.parts) {
${
        each((j) =>
          `    store_partials(part * ${2 * HEAD_VECTORS}u + own + ${j}u, gamma${j});
    store_partials(part * ${2 * HEAD_VECTORS}u + ${HEAD_VECTORS}u + own + ${j}u, beta${j});`
        )
      }
  }`,
    }),
    params: [
      ...paramValues(shape),
      parts,
      rowsPerPart(shape.rows),
      ...(isSplit ? [splitsOf(way, shape), way.heads(shape)] : []),
    ],
    grid: foldGrid(Math.ceil(parts * LANES / THREADS)),
    flops: 14 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
}

/** Second stage: buffers partials, d_gamma and d_beta, both f32 [64] and added to. */
function finish(way: Way, target: Target, shape: HeadNormShape): Launch {
  const { ahead } = way;
  const parts = partsOf(way, shape);
  const add = (i: string) => `sum = sum + load_partials((${i}) * ${2 * HEAD_VECTORS}u + wg);`;
  const block = `for (; i + ${(ahead - 1) * THREADS}u < params.parts; i += ${ahead * THREADS}u) {
${unroll(ahead, (at) => `    ${add(`i + ${at * THREADS}u`)}`)}
  }`;
  return {
    kernel: buildKernel({
      name: "head_norm_parameters",
      spec: { ahead, subgroups: hasSubgroups(target) },
      params: ["parts"],
      buffers: ["partials", "d_gamma", "d_beta"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `
  var sum = vec4f(0);
  var i = li;
  ${ahead > 1 ? block : ""}
  for (; i < params.parts; i += ${THREADS}u) { ${add("i")} }
${sumWorkgroup("sum")}
  if (li == 0u) {
    if (wg < ${HEAD_VECTORS}u) { store_d_gamma(wg, load_d_gamma(wg) + total); }
    else { store_d_beta(wg - ${HEAD_VECTORS}u, load_d_beta(wg - ${HEAD_VECTORS}u) + total); }
  }`,
    }),
    params: [parts],
    grid: [2 * HEAD_VECTORS, 1, 1],
    flops: parts * 2 * HEAD_CHANNELS,
  };
}

/** The family of the gradients. */
export const headColumnsFamily: Family<HeadColumnsSpec, HeadNormShape> = {
  name: "head_norm_columns",
  variants: WAYS.map((way) => ({
    name: way.name,
    applies: () => true,
    work: (target, spec, shape) => ({
      launches: [
        { launch: partials(way, target, spec, shape), writes: ["partials"] },
        { launch: finish(way, target, shape), writes: ["d_gamma", "d_beta"] },
      ],
      scratch: { partials: partsOf(way, shape) * 2 * HEAD_CHANNELS },
    }),
  })),
  prefer: ({ subgroups }) => subgroups >= 16 ? HEADS.name : ROWS.name,
  twin: ROWS.name,
  traits: (spec, { rows, sequence, textRows, heads }) => ({ ...spec, rows, sequence, textRows, heads }),
  operands({ rotate }, { rows, heads, sequence, textRows }) {
    const size = rows * heads * HEAD_CHANNELS;
    const angles = (sequence - textRows) * HEAD_CHANNELS / 2;
    return {
      x: size,
      g: size,
      d_gamma: HEAD_CHANNELS,
      d_beta: HEAD_CHANNELS,
      ...Object.fromEntries(tables(rotate).map(({ name }) => [name, angles])),
    };
  },
  probe: (shape) => ({ ...shape, ...probeRows(shape) }),
};

/**
 * dGamma += sum g * xhat and dBeta += sum g over all rows and heads (g rotated back first). Operands: x (before the
 * norm), g, d_gamma and d_beta (f32 [64]) and, when rotating, cosines and sines.
 */
export function headNormColumns(target: Target, spec: HeadColumnsSpec, shape: HeadNormShape): Work {
  return solve(headColumnsFamily, target, spec, shape);
}
