/**
 * Layer norm of queries and keys over the 64 channels of each head, followed by the rotation of video rows. Eight lanes
 * have a head at a time: they walk the heads of a row, so that weights and angles are loaded once, or, where there are
 * more threads than rows keep busy, have one head alone. Both compute the same bits.
 */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { hasSubgroups, LANES, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Channels of a head in every CogVideoX model. */
const HEAD_CHANNELS = 64;
const HEAD_VECTORS = HEAD_CHANNELS / 4;

/** Rows of a joint sequence [batch * sequence, heads * 64]; rows from `textRows` on are video and are rotated. */
export interface HeadNormShape {
  readonly rows: number;
  readonly sequence: number;
  readonly textRows: number;
  readonly heads: number;
  readonly eps: number;
}

/** Element types: `dtype` of the rows, `param` of gamma and beta. */
export interface HeadNormSpec {
  readonly dtype: DType;
  readonly param: DType;
  /** Whether cos and sin (f32 [sequence - textRows, 32]) are bound and video rows rotate. */
  readonly rotate: boolean;
}

const PARAMS = ["rows", "sequence", "text_rows", "heads", "eps:f32"];

function paramValues({ rows, sequence, textRows, heads, eps }: HeadNormShape): number[] {
  if (rows % sequence !== 0) throw new RangeError(`Cannot split ${rows} rows into sequences of ${sequence}`);
  return [rows, sequence, textRows, heads, eps];
}

function tables(rotate: boolean): BufferSpec[] {
  return rotate ? [{ name: "cosines", dtype: "f32" }, { name: "sines", dtype: "f32" }] : [];
}

/** Lane l of 8 owns channels 8l..8l+7: two vectors, whose four rotation pairs are one vector of the tables. */
const VECTORS = HEAD_VECTORS / LANES;
const each = (line: (j: number) => string): string => unroll(VECTORS, line);

/** The angles of this lane's pairs in this row; text rows get the identity. */
const LOAD_ANGLES = `
  let n = row % params.sequence;
  let video = n >= params.text_rows;
  let angle_at = (max(n, params.text_rows) - params.text_rows) * ${LANES}u + l;
  let cosine = select(vec4f(1), load_cosines(angle_at), video);
  let sine = select(vec4f(0), load_sines(angle_at), video);`;

/** y = x rotated by +angle (sign 1) or -angle (sign -1) in the pairs (x, y) and (z, w). */
const ROTATE = `fn rotate(v: vec4f, c: vec2f, s: vec2f) -> vec4f {
  return vec4f(v.x * c.x - v.y * s.x, v.x * s.x + v.y * c.x, v.z * c.y - v.w * s.y, v.z * s.y + v.w * c.y);
}`;

const half = (j: number): string => (j === 0 ? "xy" : "zw");
const forward = (j: number, v: string): string => `rotate(${v}, cosine.${half(j)}, sine.${half(j)})`;
const back = (j: number, v: string): string => `rotate(${v}, cosine.${half(j)}, -sine.${half(j)})`;

/**
 * Loads the row's head into v0 and v1, takes the mean off and leaves `rs` = 1 / sqrt(var + eps): two passes over
 * registers.
 */
const NORMALISE = `
${each((j) => `    var v${j} = load_x(at + ${j}u);`)}
    let mean = lane_sum(dot(v0 + v1, vec4f(1)), li) / ${HEAD_CHANNELS}.0;
${each((j) => `    v${j} = v${j} - mean;`)}
    let rs = inverseSqrt(lane_sum(dot(v0, v0) + dot(v1, v1), li) / ${HEAD_CHANNELS}.0 + params.eps);`;

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
    probe: ({ rows, sequence, textRows, ...rest }) => {
      const short = Math.min(sequence, 13);
      return { ...rest, rows: rows / sequence * short, sequence: short, textRows: Math.min(textRows, 5, short) };
    },
  };
}

const value = (j: number): string => `v${j} * rs * gamma${j} + beta${j}`;
const gradient = (j: number, rotate: boolean): string => rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;

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

/** Rows that one group of lanes adds up: few enough for the 65,535 loop iterations of Mesa 22.3 at 48 heads. */
function rowsPerPart(rows: number): number {
  return Math.min(1024, Math.max(16, Math.ceil(rows / 4096)));
}

/** Parts of {@linkcode headNormColumns}: its partials are f32 [parts, 2, 64] (dGamma, then dBeta). */
export function headNormParts({ rows }: HeadNormShape): number {
  return Math.ceil(rows / rowsPerPart(rows));
}

/**
 * First stage of dGamma = sum g * xhat and dBeta = sum g over all rows and heads (g rotated back first).
 * Buffers: x (before the norm), g, partials (f32 [parts, 2, 64]) and, when rotating, cos and sin.
 */
export function headNormColumns(
  target: Target,
  spec: { readonly dtype: DType; readonly rotate: boolean },
  shape: HeadNormShape,
): Launch {
  const { dtype, rotate } = spec;
  const parts = headNormParts(shape);
  return {
    kernel: buildKernel({
      name: "head_norm_columns",
      spec: { dtype, rotate, subgroups: hasSubgroups(target) },
      params: [...PARAMS, "parts", "length"],
      buffers: [{ name: "x", dtype }, { name: "g", dtype }, { name: "partials", dtype: "f32" }, ...tables(rotate)],
      workgroupSize: THREADS,
      declarations: laneSums(target) + (rotate ? `\n${ROTATE}` : ""),
      body: `  let part = gid / ${LANES}u;
  let l = gid % ${LANES}u;
  let own = l * ${VECTORS}u;
${each((j) => `  var gamma${j} = vec4f(0); var beta${j} = vec4f(0);`)}
  for (var i = 0u; i < params.length; i++) {
  let live = select(0.0, 1.0, part < params.parts && part * params.length + i < params.rows);
  let row = min(part * params.length + i, params.rows - 1u);
${rotate ? LOAD_ANGLES : ""}
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${NORMALISE}
${
        each((j) =>
          `    let g${j} = ${gradient(j, rotate)} * live;
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
    params: [...paramValues(shape), parts, rowsPerPart(shape.rows)],
    grid: foldGrid(Math.ceil(parts * LANES / THREADS)),
    flops: 14 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
}

/** Second stage: dGamma += and dBeta +=, both f32 [64]. Buffers: partials, dGamma, dBeta. */
export function headNormParameters(target: Target, shape: HeadNormShape): Launch {
  const parts = headNormParts(shape);
  return {
    kernel: buildKernel({
      name: "head_norm_parameters",
      spec: { subgroups: hasSubgroups(target) },
      params: ["parts"],
      buffers: [
        { name: "partials", dtype: "f32" },
        { name: "d_gamma", dtype: "f32" },
        { name: "d_beta", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `
  var sum = vec4f(0);
  for (var i = li; i < params.parts; i += ${THREADS}u) { sum = sum + load_partials(i * ${2 * HEAD_VECTORS}u + wg); }
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
