/** Layer norm of queries and keys over the 64 channels of each head, followed by the rotation of video rows. */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS } from "../core/kernel.ts";
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

/** A row past the end is clamped instead of left, so that all lanes reach the sums. */
const LOCATE = `
  let group = gid / ${LANES}u;
  let l = gid % ${LANES}u;
  let live = group < params.rows;
  let row = min(group, params.rows - 1u);
  let own = l * ${VECTORS}u;`;

/**
 * y = rotate(xhat * gamma + beta) per row and head. Buffers: x, gamma, beta, y and, when rotating, cos and sin
 * (f32 [video rows, 32]; pair k rotates channels 2k and 2k+1).
 */
export function headNorm(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Launch {
  const { dtype, param, rotate } = spec;
  const value = (j: number) => `v${j} * rs * gamma${j} + beta${j}`;
  return {
    kernel: buildKernel({
      name: "head_norm",
      spec: { dtype, param, rotate, subgroups: hasSubgroups(target) },
      params: PARAMS,
      buffers: [
        { name: "x", dtype },
        { name: "gamma", dtype: param },
        { name: "beta", dtype: param },
        { name: "y", dtype },
        ...tables(rotate),
      ],
      workgroupSize: THREADS,
      declarations: laneSums(target) + (rotate ? `\n${ROTATE}` : ""),
      body: `${LOCATE}
${rotate ? LOAD_ANGLES : ""}
${each((j) => `  let gamma${j} = load_gamma(own + ${j}u); let beta${j} = load_beta(own + ${j}u);`)}
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${NORMALISE}
    if (live) {
${each((j) => `      store_y(at + ${j}u, ${rotate ? forward(j, value(j)) : value(j)});`)}
    }
  }`,
    }),
    params: paramValues(shape),
    grid: foldGrid(Math.ceil(shape.rows * LANES / THREADS)),
    flops: 14 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
}

/**
 * Gradient of {@linkcode headNorm} in x. Buffers: x (before the norm), gamma, g, dx and, when rotating, cos and sin.
 */
export function headNormBackward(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Launch {
  const { dtype, param, rotate } = spec;
  const gradient = (j: number) => rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;
  return {
    kernel: buildKernel({
      name: "head_norm_backward",
      spec: { dtype, param, rotate, subgroups: hasSubgroups(target) },
      params: PARAMS,
      buffers: [
        { name: "x", dtype },
        { name: "gamma", dtype: param },
        { name: "g", dtype },
        { name: "dx", dtype },
        ...tables(rotate),
      ],
      workgroupSize: THREADS,
      declarations: laneSums(target) + (rotate ? `\n${ROTATE}` : ""),
      body: `${LOCATE}
${rotate ? LOAD_ANGLES : ""}
${each((j) => `  let gamma${j} = load_gamma(own + ${j}u);`)}
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${NORMALISE}
${each((j) => `    let w${j} = ${gradient(j)} * gamma${j};`)}
    let a = lane_sum(dot(w0 + w1, vec4f(1)), li) / ${HEAD_CHANNELS}.0;
    let d = lane_sum(dot(w0, v0) + dot(w1, v1), li) * rs * rs / ${HEAD_CHANNELS}.0;
    if (live) {
${each((j) => `      store_dx(at + ${j}u, rs * (w${j} - a - v${j} * d));`)}
    }
  }`,
    }),
    params: paramValues(shape),
    grid: foldGrid(Math.ceil(shape.rows * LANES / THREADS)),
    flops: 22 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
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
  const gradient = (j: number) => rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;
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
          `    let g${j} = ${gradient(j)} * live;
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
