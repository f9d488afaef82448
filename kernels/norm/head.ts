/**
 * Layer norm of queries and keys over the 64 channels of each head, followed by the rotation of video rows. Eight lanes
 * have a head at a time: they walk the heads of a row, so that weights and angles are loaded once, or, where there are
 * more threads than rows keep busy, have one head alone. Both compute the same bits.
 */
import { type BufferSpec, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { hasSubgroups, LANES, laneSums } from "../reduce/lanes.ts";
import { buildKernel } from "../core/wgsl.ts";
import {
  each,
  forward,
  gradient,
  HEAD_CHANNELS,
  HEAD_VECTORS,
  type HeadNormShape,
  type HeadNormSpec,
  LOAD_ANGLES,
  NORMALISE,
  PARAMS,
  paramValues,
  ROTATE,
  tables,
  VECTORS,
} from "./head_text.ts";
import { probeRows } from "./rows.ts";

/** What eight lanes have. */
type Share = "rows" | "heads";

/** A share past the end is clamped instead of left, so that all lanes reach the sums. */
function locate(share: Share): string {
  const count = share === "rows" ? "params.rows" : "params.rows * params.heads";
  return `
  let group = gid / ${LANES}u;
  let l = gid % ${LANES}u;
  let live = group < ${count};
  let part = min(group, ${count} - 1u);
  let row = ${share === "rows" ? "part" : "part / params.heads"};
  let own = l * ${VECTORS}u;`;
}

/** Runs `text` for the heads of a share; the lane's vectors of a head begin at `at`. */
function eachHead(share: Share, text: string): string {
  if (share === "heads") return `  let at = part * ${HEAD_VECTORS}u + own;\n${text}`;
  return `  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${text}
  }`;
}

/**
 * Rows whose lanes, half of what an H100 holds, keep enough bytes under way while each waits for one head after the
 * other (bench/results/2026-11-28-roofline.md); a clip of 49 frames has 17,776. Not yet measured.
 */
const MANY_ROWS = 16384;

/** A kernel over all heads. */
interface HeadKernel {
  readonly name: string;
  /** Operands before the tables of the rotation, of which the last is written. */
  readonly buffers: (spec: HeadNormSpec) => readonly BufferSpec[];
  /** Statements before the heads. */
  readonly start: string;
  /** Statements for each head. */
  readonly head: (rotate: boolean) => string;
  /** Arithmetic per element. */
  readonly flops: number;
}

function launch(kernel: HeadKernel, share: Share, target: Target, spec: HeadNormSpec, shape: HeadNormShape): Launch {
  const { dtype, param, rotate } = spec;
  const { rows, heads } = shape;
  const shares = share === "rows" ? rows : rows * heads;
  return {
    kernel: buildKernel({
      name: kernel.name,
      spec: { dtype, param, rotate, share, subgroups: hasSubgroups(target) },
      params: PARAMS,
      buffers: [...kernel.buffers(spec), ...tables(rotate)],
      workgroupSize: THREADS,
      declarations: () => laneSums(target) + (rotate ? `\n${ROTATE}` : ""),
      body: () =>
        `${locate(share)}
${rotate ? LOAD_ANGLES : ""}
${kernel.start}
${eachHead(share, kernel.head(rotate))}`,
    }),
    params: paramValues(shape),
    grid: foldGrid(Math.ceil(shares * LANES / THREADS)),
    flops: kernel.flops * rows * heads * HEAD_CHANNELS,
  };
}

function familyOf(kernel: HeadKernel): Family<HeadNormSpec, HeadNormShape> {
  const written = kernel.buffers({ dtype: "f32", param: "f32", rotate: false }).at(-1)!.name;
  const variant = (share: Share): Variant<HeadNormSpec, HeadNormShape> => ({
    name: share,
    applies: () => true,
    work: (target, spec, shape) => ({
      launches: [{ launch: launch(kernel, share, target, spec, shape), writes: [written] }],
    }),
  });
  return {
    name: kernel.name,
    variants: [variant("rows"), variant("heads")],
    prefer: ({ subgroups }, _, { rows }) => subgroups >= 16 && rows < MANY_ROWS ? "heads" : "rows",
    twin: "rows",
    traits: (spec, { rows, sequence, textRows, heads }) => ({ ...spec, rows, sequence, textRows, heads }),
    operands(spec, { rows, heads, sequence, textRows }) {
      const size = rows * heads * HEAD_CHANNELS;
      const sizes: Record<string, number> = { gamma: HEAD_CHANNELS, beta: HEAD_CHANNELS };
      const angles = (sequence - textRows) * HEAD_CHANNELS / 2;
      return Object.fromEntries([
        ...kernel.buffers(spec).map(({ name }) => [name, sizes[name] ?? size]),
        ...tables(spec.rotate).map(({ name }) => [name, angles]),
      ]);
    },
    probe: (shape) => ({ ...shape, ...probeRows(shape) }),
  };
}

const value = (j: number): string => `v${j} * rs * gamma${j} + beta${j}`;

/** The families of the norm and its gradient. */
export const headNormFamilies = {
  forward: familyOf({
    name: "head_norm",
    buffers: ({ dtype, param }) => [
      { name: "x", dtype },
      { name: "gamma", dtype: param },
      { name: "beta", dtype: param },
      { name: "y", dtype },
    ],
    start: each((j) => `  let gamma${j} = load_gamma(own + ${j}u); let beta${j} = load_beta(own + ${j}u);`),
    head: (rotate) =>
      `${NORMALISE}
    if (live) {
${each((j) => `      store_y(at + ${j}u, ${rotate ? forward(j, value(j)) : value(j)});`)}
    }`,
    flops: 14,
  }),
  backward: familyOf({
    name: "head_norm_backward",
    buffers: ({ dtype, param }) => [
      { name: "x", dtype },
      { name: "gamma", dtype: param },
      { name: "g", dtype },
      { name: "dx", dtype },
    ],
    start: each((j) => `  let gamma${j} = load_gamma(own + ${j}u);`),
    head: (rotate) =>
      `${NORMALISE}
${each((j) => `    let w${j} = ${gradient(j, rotate)} * gamma${j};`)}
    let a = lane_sum(dot(w0 + w1, vec4f(1)), li) / ${HEAD_CHANNELS}.0;
    let d = lane_sum(dot(w0, v0) + dot(w1, v1), li) * rs * rs / ${HEAD_CHANNELS}.0;
    if (live) {
${each((j) => `      store_dx(at + ${j}u, rs * (w${j} - a - v${j} * d));`)}
    }`,
    flops: 22,
  }),
};

/**
 * y = rotate(xhat * gamma + beta) per row and head. Operands: x, gamma, beta, y and, when rotating, cosines and sines
 * (f32 [video rows, 32]; pair k rotates channels 2k and 2k+1).
 */
export function headNorm(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Work {
  return solve(headNormFamilies.forward, target, spec, shape);
}

/**
 * Gradient of {@linkcode headNorm} in x. Operands: x (before the norm), gamma, g, dx and, when rotating, cosines and
 * sines.
 */
export function headNormBackward(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Work {
  return solve(headNormFamilies.backward, target, spec, shape);
}
