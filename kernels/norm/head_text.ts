/** What the texts of the norms of heads share: where heads lie, their statistics and their rotation. */
import type { BufferSpec, DType } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import { LANES } from "../reduce/lanes.ts";

/** Channels of a head in every CogVideoX model. */
export const HEAD_CHANNELS = 64;
/** Its vectors. */
export const HEAD_VECTORS = HEAD_CHANNELS / 4;

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

/** Words of {@linkcode paramValues}. */
export const PARAMS = ["rows", "sequence", "text_rows", "heads", "eps:f32"];

/** Values of {@linkcode PARAMS}. */
export function paramValues({ rows, sequence, textRows, heads, eps }: HeadNormShape): number[] {
  if (rows % sequence !== 0) throw new RangeError(`Cannot split ${rows} rows into sequences of ${sequence}`);
  return [rows, sequence, textRows, heads, eps];
}

/** The tables of the rotation. */
export function tables(rotate: boolean): BufferSpec[] {
  return rotate ? [{ name: "cosines", dtype: "f32" }, { name: "sines", dtype: "f32" }] : [];
}

/** Lane l of 8 owns channels 8l..8l+7: two vectors, whose four rotation pairs are one vector of the tables. */
export const VECTORS = HEAD_VECTORS / LANES;

/** `line` for each vector of a lane. */
export const each = (line: (j: number) => string): string => unroll(VECTORS, line);

/** The angles of this lane's pairs in this row; text rows get the identity. */
export const LOAD_ANGLES = `
  let n = row % params.sequence;
  let video = n >= params.text_rows;
  let angle_at = (max(n, params.text_rows) - params.text_rows) * ${LANES}u + l;
  let cosine = select(vec4f(1), load_cosines(angle_at), video);
  let sine = select(vec4f(0), load_sines(angle_at), video);`;

/** y = x rotated by +angle (sign 1) or -angle (sign -1) in the pairs (x, y) and (z, w). */
export const ROTATE = `fn rotate(v: vec4f, c: vec2f, s: vec2f) -> vec4f {
  return vec4f(v.x * c.x - v.y * s.x, v.x * s.x + v.y * c.x, v.z * c.y - v.w * s.y, v.z * s.y + v.w * c.y);
}`;

const half = (j: number): string => (j === 0 ? "xy" : "zw");
/** Vector j of a head, rotated. */
export const forward = (j: number, v: string): string => `rotate(${v}, cosine.${half(j)}, sine.${half(j)})`;
const back = (j: number, v: string): string => `rotate(${v}, cosine.${half(j)}, -sine.${half(j)})`;

/**
 * Loads the row's head into v0 and v1, takes the mean off and leaves `rs` = 1 / sqrt(var + eps): two passes over
 * registers.
 */
export const NORMALISE = `
${each((j) => `    var v${j} = load_x(at + ${j}u);`)}
    let mean = lane_sum(dot(v0 + v1, vec4f(1)), li) / ${HEAD_CHANNELS}.0;
${each((j) => `    v${j} = v${j} - mean;`)}
    let rs = inverseSqrt(lane_sum(dot(v0, v0) + dot(v1, v1), li) / ${HEAD_CHANNELS}.0 + params.eps);`;

/** Gradient of the norm at vector j of a lane, rotated back. */
export const gradient = (j: number, rotate: boolean): string =>
  rotate ? back(j, `load_g(at + ${j}u)`) : `load_g(at + ${j}u)`;
