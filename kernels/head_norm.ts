/** Layer norm of queries and keys over the 64 channels of each head, followed by the rotation of video rows. */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target } from "./kernel.ts";
import { lanesPerRow, sumLanes, THREADS } from "./reduce_lanes.ts";
import { buildKernel, unroll } from "./wgsl.ts";

/** Channels of a head in every CogVideoX model. */
export const HEAD_CHANNELS = 64;
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

/**
 * Lane l of 8 owns channels 8l..8l+7, that is two vectors and the four rotation pairs of one vector of the tables; a thread
 * alone owns all sixteen vectors and eight table vectors.
 */
const vectors = (lanes: 1 | 8): number => HEAD_VECTORS / lanes;
const each = (lanes: 1 | 8, line: (j: number) => string): string => unroll(vectors(lanes), line);

/** `video`, the angles of this row, and helpers that rotate two vectors forward or back. */
function loadAngles(lanes: 1 | 8): string {
  return `  let n = row % params.sequence;
  let video = n >= params.text_rows;
  let angle_row = (max(n, params.text_rows) - params.text_rows) * 8u + l * ${vectors(lanes) / 2}u;
${
    unroll(vectors(lanes) / 2, (t) =>
      `  let cos${t} = select(vec4f(1), load_cosines(angle_row + ${t}u), video);
  let sin${t} = select(vec4f(0), load_sines(angle_row + ${t}u), video);`)
  }`;
}

/** y = x rotated by +angle (sign 1) or -angle (sign -1) in the pairs (x, y) and (z, w). */
const ROTATE = `fn rotate(v: vec4f, c: vec2f, s: vec2f) -> vec4f {
  return vec4f(v.x * c.x - v.y * s.x, v.x * s.x + v.y * c.x, v.z * c.y - v.w * s.y, v.z * s.y + v.w * c.y);
}`;

const half = (j: number): string => (j % 2 === 0 ? "xy" : "zw");
const forward = (j: number, v: string): string => `rotate(${v}, cos${j >> 1}.${half(j)}, sin${j >> 1}.${half(j)})`;
const back = (j: number, v: string): string => `rotate(${v}, cos${j >> 1}.${half(j)}, -sin${j >> 1}.${half(j)})`;

/** Loads the row's head into v0.. and leaves `mean` subtracted and `rs` = 1 / sqrt(var + eps); two passes over registers. */
function normalise(lanes: 1 | 8): string {
  return `${each(lanes, (j) => `    var v${j} = load_x(at + ${j}u);`)}
    var sum = dot(${each(lanes, (j) => `v${j}`).replaceAll("\n", " + ")}, vec4f(1));
    ${sumLanes(lanes, "sum")}
    let mean = sum / ${HEAD_CHANNELS}.0;
${each(lanes, (j) => `    v${j} = v${j} - mean;`)}
    var square = ${each(lanes, (j) => `dot(v${j}, v${j})`).replaceAll("\n", " + ")};
    ${sumLanes(lanes, "square")}
    let rs = inverseSqrt(square / ${HEAD_CHANNELS}.0 + params.eps);`;
}

/** Lane, row and first vector of the lane. A row past the end is clamped, so that all lanes reach the shuffles. */
function locate(lanes: 1 | 8): string {
  return `  let group = gid / ${lanes}u;
  let l = gid % ${lanes}u;
  let live = group < params.rows;
  let row = min(group, params.rows - 1u);
  let own = l * ${vectors(lanes)}u;`;
}

/**
 * y = rotate(xhat * gamma + beta) per row and head. Buffers: x, gamma, beta, y and, when rotating, cos and sin
 * (f32 [video rows, 32]; pair k rotates channels 2k and 2k+1).
 */
export function headNorm(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Launch {
  const lanes = lanesPerRow(target);
  const { dtype, param, rotate } = spec;
  const affine = (j: number) => `v${j} * rs * load_gamma(own + ${j}u) + load_beta(own + ${j}u)`;
  const hoisted = (j: number) => `v${j} * rs * gamma${j} + beta${j}`;
  const value = lanes === 8 ? hoisted : affine;
  return {
    kernel: buildKernel({
      name: "head_norm",
      spec: { dtype, param, rotate, lanes },
      params: PARAMS,
      buffers: [
        { name: "x", dtype },
        { name: "gamma", dtype: param },
        { name: "beta", dtype: param },
        { name: "y", dtype },
        ...tables(rotate),
      ],
      workgroupSize: THREADS,
      declarations: rotate ? ROTATE : "",
      body: `${locate(lanes)}
${rotate ? loadAngles(lanes) : ""}
${
        lanes === 8
          ? each(lanes, (j) => `  let gamma${j} = load_gamma(own + ${j}u); let beta${j} = load_beta(own + ${j}u);`)
          : ""
      }
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${normalise(lanes)}
    if (live) {
${each(lanes, (j) => `      store_y(at + ${j}u, ${rotate ? forward(j, value(j)) : value(j)});`)}
    }
  }`,
    }),
    params: paramValues(shape),
    grid: foldGrid(Math.ceil(shape.rows * lanes / THREADS)),
    flops: 14 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
}

/** Gradient of {@linkcode headNorm} in x. Buffers: x (before the norm), gamma, g, dx and, when rotating, cos and sin. */
export function headNormBackward(target: Target, spec: HeadNormSpec, shape: HeadNormShape): Launch {
  const lanes = lanesPerRow(target);
  const { dtype, param, rotate } = spec;
  const gradient = (j: number) => rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;
  return {
    kernel: buildKernel({
      name: "head_norm_backward",
      spec: { dtype, param, rotate, lanes },
      params: PARAMS,
      buffers: [
        { name: "x", dtype },
        { name: "gamma", dtype: param },
        { name: "g", dtype },
        { name: "dx", dtype },
        ...tables(rotate),
      ],
      workgroupSize: THREADS,
      declarations: rotate ? ROTATE : "",
      body: `${locate(lanes)}
${rotate ? loadAngles(lanes) : ""}
${lanes === 8 ? each(lanes, (j) => `  let gamma${j} = load_gamma(own + ${j}u);`) : ""}
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${normalise(lanes)}
${each(lanes, (j) => `    let w${j} = ${gradient(j)} * ${lanes === 8 ? `gamma${j}` : `load_gamma(own + ${j}u)`};`)}
    var first = dot(${each(lanes, (j) => `w${j}`).replaceAll("\n", " + ")}, vec4f(1));
    var second = ${each(lanes, (j) => `dot(w${j}, v${j})`).replaceAll("\n", " + ")};
    ${sumLanes(lanes, "first", "second")}
    let a = first / ${HEAD_CHANNELS}.0;
    let d = second * rs * rs / ${HEAD_CHANNELS}.0;
    if (live) {
${each(lanes, (j) => `      store_dx(at + ${j}u, rs * (w${j} - a - v${j} * d));`)}
    }
  }`,
    }),
    params: paramValues(shape),
    grid: foldGrid(Math.ceil(shape.rows * lanes / THREADS)),
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
  const lanes = lanesPerRow(target);
  const { dtype, rotate } = spec;
  const parts = headNormParts(shape);
  const gradient = (j: number) => rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;
  return {
    kernel: buildKernel({
      name: "head_norm_columns",
      spec: { dtype, rotate, lanes },
      params: [...PARAMS, "parts", "length"],
      buffers: [{ name: "x", dtype }, { name: "g", dtype }, { name: "partials", dtype: "f32" }, ...tables(rotate)],
      workgroupSize: THREADS,
      declarations: rotate ? ROTATE : "",
      body: `  let part = gid / ${lanes}u;
  let l = gid % ${lanes}u;
  let own = l * ${vectors(lanes)}u;
${each(lanes, (j) => `  var gamma${j} = vec4f(0); var beta${j} = vec4f(0);`)}
  for (var i = 0u; i < params.length; i++) {
  let live = select(0.0, 1.0, part < params.parts && part * params.length + i < params.rows);
  let row = min(part * params.length + i, params.rows - 1u);
${rotate ? loadAngles(lanes) : ""}
  for (var h = 0u; h < params.heads; h++) {
    let at = (row * params.heads + h) * ${HEAD_VECTORS}u + own;
${normalise(lanes)}
${
        each(lanes, (j) =>
          `    let g${j} = ${gradient(j)} * live;
    gamma${j} = gamma${j} + g${j} * v${j} * rs;
    beta${j} = beta${j} + g${j};`)
      }
  }
  }
  if (part < params.parts) {
${
        each(lanes, (j) =>
          `    store_partials(part * ${2 * HEAD_VECTORS}u + own + ${j}u, gamma${j});
    store_partials(part * ${2 * HEAD_VECTORS}u + ${HEAD_VECTORS}u + own + ${j}u, beta${j});`)
      }
  }`,
    }),
    params: [...paramValues(shape), parts, rowsPerPart(shape.rows)],
    grid: foldGrid(Math.ceil(parts * lanes / THREADS)),
    flops: 14 * shape.rows * shape.heads * HEAD_CHANNELS,
  };
}

/** Second stage: dGamma += and dBeta +=, both f32 [64]. Buffers: partials, dGamma, dBeta. */
export function headNormParameters(_target: Target, shape: HeadNormShape): Launch {
  const parts = headNormParts(shape);
  return {
    kernel: buildKernel({
      name: "head_norm_parameters",
      spec: {},
      params: ["parts"],
      buffers: [
        { name: "partials", dtype: "f32" },
        { name: "d_gamma", dtype: "f32" },
        { name: "d_beta", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      body: `
  if (gid < ${2 * HEAD_VECTORS}u) {
    var sum = vec4f(0);
    for (var i = 0u; i < params.parts; i++) { sum = sum + load_partials(i * ${2 * HEAD_VECTORS}u + gid); }
    if (gid < ${HEAD_VECTORS}u) { store_d_gamma(gid, load_d_gamma(gid) + sum); }
    else { store_d_beta(gid - ${HEAD_VECTORS}u, load_d_beta(gid - ${HEAD_VECTORS}u) + sum); }
  }`,
    }),
    params: [parts],
    grid: [1, 1, 1],
    flops: parts * 2 * HEAD_CHANNELS,
  };
}
