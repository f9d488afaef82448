/**
 * Layer norm over the channels of each token, with the adaptive scale and shift of the conditioning, and T5's RMS norm.
 */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { GROUP_ROWS, locateRows, ROW_PARAMS, rowGroups, type SegmentRows } from "./rows.ts";
import { hasSubgroups, LANES, laneSums } from "../reduce/lanes.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Shape of a layer norm; the last five are element counts inside one row of the modulation tensor. */
export interface LayerNormShape extends SegmentRows {
  /** Channels, a multiple of four. */
  readonly width: number;
  readonly eps: number;
  /** Elements of one batch row of the modulation; 0 when unmodulated. */
  readonly modulationStride: number;
  readonly shiftText: number;
  readonly scaleText: number;
  readonly shiftVideo: number;
  readonly scaleVideo: number;
}

const MODULATION_PARAMS = ["stride4", "shift_text4", "scale_text4", "shift_video4", "scale_video4"];

function modulationValues(shape: LayerNormShape): number[] {
  const { modulationStride, shiftText, scaleText, shiftVideo, scaleVideo } = shape;
  return [modulationStride, shiftText, scaleText, shiftVideo, scaleVideo].map((v) => fours("modulation chunk", v));
}

const LOCATE_MODULATION = `
  let shift_at = b * params.stride4 + select(params.shift_video4, params.shift_text4, text);
  let scale_at = b * params.stride4 + select(params.scale_video4, params.scale_text4, text);`;

const LOCATE = `${locateRows(`gid / ${LANES}u`)}\n  let l = gid % ${LANES}u;`;
const each = (line: (i: number) => string): string => unroll(GROUP_ROWS, line);
/** One component per row of the group: `vec4f(f(0), f(1), f(2), f(3))`. */
const packed = (f: (i: number) => string): string => `vec4f(${unroll(GROUP_ROWS, f, ", ")})`;
const component = (i: number): string => "xyzw"[i]!;
const columns = (body: string, first = "l"): string =>
  `  for (var c = ${first}; c < params.width4; c += ${LANES}u) {\n${body}\n  }`;

/**
 * `mean` and `square` (sum of squared distances from it) of the four rows in one pass over memory. Every component of
 * every lane measures its values from its own first one, o, and keeps S = sum(x - o) and Q = sum((x - o)^2); its share
 * of the squares is Q - S^2 / n + n (o + S / n - mean)^2. The subtraction cannot cancel badly as a far-off o is itself
 * part of the row: the error relative to the result stays below about 2n roundings, n = width / 32.
 */
const STATISTICS = `
  let n = select(0.0, f32((params.width4 + ${LANES - 1}u - l) / ${LANES}u), l < params.width4);
  let share = 1.0 / max(n, 1.0);
  let origin_at = min(l, params.width4 - 1u);
${each((i) => `  let o${i} = load_x(row${i} * params.width4 + origin_at); var s${i} = vec4f(0); var q${i} = vec4f(0);`)}
${
  columns(
    each((i) =>
      `    { let v = load_x(row${i} * params.width4 + c) - o${i}; s${i} = s${i} + v; q${i} = q${i} + v * v; }`
    ),
    `l + ${LANES}u`,
  )
}
  let mean = lane_sum4(${packed((i) => `dot(o${i} * n + s${i}, vec4f(1))`)}, li) * params.inverse_width;
${
  each((i) =>
    `  let d${i} = o${i} + s${i} * share - mean.${component(i)};
  q${i} = q${i} - s${i} * s${i} * share + n * d${i} * d${i};`
  )
}
  let square = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li);`;

/**
 * y = (xhat * gamma + beta) * (1 + scale) + shift with xhat = (x - mean) / sqrt(var + eps) over the channels of a row,
 * biased variance. Buffers: x, gamma, beta, y, stats (f32 [rows, 4]: mean, 1 / sqrt(var + eps), 0, 0) and, when
 * modulated, modulation (f32 [batch, modulationStride]).
 */
export function layerNorm(
  target: Target,
  spec: { readonly x: DType; readonly y: DType; readonly param: DType; readonly modulated: boolean },
  shape: LayerNormShape,
): Launch {
  const { params, groups } = rowGroups(shape);
  const buffers: BufferSpec[] = [
    { name: "x", dtype: spec.x },
    { name: "gamma", dtype: spec.param },
    { name: "beta", dtype: spec.param },
    { name: "y", dtype: spec.y },
    { name: "stats", dtype: "f32" },
  ];
  if (spec.modulated) buffers.push({ name: "modulation", dtype: "f32" });
  const affine = spec.modulated
    ? `    let scale = vec4f(1) + load_modulation(scale_at + c);
    let a = load_gamma(c) * scale;
    let d = load_beta(c) * scale + load_modulation(shift_at + c);`
    : `    let a = load_gamma(c);
    let d = load_beta(c);`;
  return {
    kernel: buildKernel({
      name: "layer_norm",
      spec: { x: spec.x, y: spec.y, param: spec.param, modulated: spec.modulated, subgroups: hasSubgroups(target) },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", "eps:f32", ...MODULATION_PARAMS],
      buffers,
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${LOCATE}${spec.modulated ? LOCATE_MODULATION : ""}
${STATISTICS}
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
        columns(
          `${affine}\n` + each((i) =>
            `    if (live${i}) {
      let at = row${i} * params.width4 + c;
      store_y(at, (load_x(at) - mean.${component(i)}) * rs.${component(i)} * a + d);
    }`
          ),
        )
      }
  if (l == 0u) {
${each((i) => `    if (live${i}) { store_stats(row${i}, vec4f(mean.${component(i)}, rs.${component(i)}, 0, 0)); }`)}
  }`,
    }),
    params: [...params, fours("width", shape.width), 1 / shape.width, shape.eps, ...modulationValues(shape)],
    grid: foldGrid(Math.ceil(groups * LANES / THREADS)),
    flops: 8 * shape.rows * shape.width,
  };
}

/**
 * dx = rs * (gw - mean(gw) - xhat * mean(gw * xhat)) with gw = g * (1 + scale) * gamma; `accumulate` adds it to dx.
 * Buffers: x, stats (of the forward), gamma, g, dx and, when modulated, modulation.
 */
export function layerNormBackward(
  target: Target,
  spec: {
    readonly x: DType;
    readonly g: DType;
    readonly dx: DType;
    readonly param: DType;
    readonly modulated: boolean;
    readonly accumulate: boolean;
  },
  shape: LayerNormShape,
): Launch {
  const { params, groups } = rowGroups(shape);
  const buffers: BufferSpec[] = [
    { name: "x", dtype: spec.x },
    { name: "stats", dtype: "f32" },
    { name: "gamma", dtype: spec.param },
    { name: "g", dtype: spec.g },
    { name: "dx", dtype: spec.dx },
  ];
  if (spec.modulated) buffers.push({ name: "modulation", dtype: "f32" });
  const weight = spec.modulated
    ? "    let weight = load_gamma(c) * (vec4f(1) + load_modulation(scale_at + c));"
    : "    let weight = load_gamma(c);";
  const load = (i: number) =>
    `let at = row${i} * params.width4 + c;
      let gw = load_g(at) * weight;
      let xhat = (load_x(at) - stats${i}.x) * stats${i}.y;`;
  return {
    kernel: buildKernel({
      name: "layer_norm_backward",
      spec: { ...spec, subgroups: hasSubgroups(target) },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", ...MODULATION_PARAMS],
      buffers,
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${LOCATE}${spec.modulated ? LOCATE_MODULATION : ""}
${each((i) => `  let stats${i} = load_stats(row${i});\n  var p${i} = vec4f(0);\n  var q${i} = vec4f(0);`)}
${
        columns(
          `${weight}\n` + each((i) =>
            `    {
      ${load(i)}
      p${i} = p${i} + gw;
      q${i} = q${i} + gw * xhat;
    }`
          ),
        )
      }
  let sum = lane_sum4(${packed((i) => `dot(p${i}, vec4f(1))`)}, li) * params.inverse_width;
  let product = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li) * params.inverse_width;
${
        columns(
          `${weight}\n` + each((i) =>
            `    if (live${i}) {
      ${load(i)}
      let d = stats${i}.y * (gw - sum.${component(i)} - xhat * product.${component(i)});
      store_dx(at, ${spec.accumulate ? "load_dx(at) + d" : "d"});
    }`
          ),
        )
      }`,
    }),
    params: [...params, fours("width", shape.width), 1 / shape.width, ...modulationValues(shape)],
    grid: foldGrid(Math.ceil(groups * LANES / THREADS)),
    flops: 14 * shape.rows * shape.width,
  };
}

/** y = x / sqrt(mean(x^2) + eps) * gamma over the channels of a row (T5). Buffers: x, gamma, y. */
export function rmsNorm(
  target: Target,
  spec: { readonly x: DType; readonly y: DType; readonly param: DType },
  shape: { readonly rows: number; readonly width: number; readonly eps: number },
): Launch {
  const { params, groups } = rowGroups({ rows: shape.rows, sequence: shape.rows, textRows: 0 });
  return {
    kernel: buildKernel({
      name: "rms_norm",
      spec: { ...spec, subgroups: hasSubgroups(target) },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", "eps:f32"],
      buffers: [{ name: "x", dtype: spec.x }, { name: "gamma", dtype: spec.param }, { name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${LOCATE}
${each((i) => `  var q${i} = vec4f(0);`)}
${
        columns(
          each((i) => `    { let v = load_x(row${i} * params.width4 + c); q${i} = q${i} + v * v; }`),
        )
      }
  let square = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li);
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
        columns(
          "    let gamma = load_gamma(c);\n" + each((i) =>
            `    if (live${i}) {
      let at = row${i} * params.width4 + c;
      store_y(at, load_x(at) * rs.${component(i)} * gamma);
    }`
          ),
        )
      }`,
    }),
    params: [...params, fours("width", shape.width), 1 / shape.width, shape.eps],
    grid: foldGrid(Math.ceil(groups * LANES / THREADS)),
    flops: 4 * shape.rows * shape.width,
  };
}
