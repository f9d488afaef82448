/** Layer norm over the channels of each token, with the adaptive scale and shift of the conditioning, and T5's RMS norm. */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target } from "./kernel.ts";
import { fours } from "./fours.ts";
import { GROUP_ROWS, locateRows, ROW_PARAMS, rowGroups, type SegmentRows } from "./norm_rows.ts";
import { lanesPerRow, sumLanes, THREADS } from "./reduce_lanes.ts";
import { buildKernel, unroll } from "./wgsl.ts";

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

const locateLanes = (lanes: 1 | 8): string => `${locateRows(`gid / ${lanes}u`)}\n  let l = gid % ${lanes}u;`;
const each = (line: (i: number) => string): string => unroll(GROUP_ROWS, line);
/** One component per row of the group: `vec4f(f(0), f(1), f(2), f(3))`. */
const packed = (f: (i: number) => string): string => `vec4f(${unroll(GROUP_ROWS, f, ", ")})`;
const component = (i: number): string => "xyzw"[i]!;
const columns = (lanes: number, body: string): string =>
  `  for (var c = l; c < params.width4; c += ${lanes}u) {\n${body}\n  }`;

/**
 * y = (xhat * gamma + beta) * (1 + scale) + shift with xhat = (x - mean) / sqrt(var + eps) over the channels of a row, biased
 * variance. Buffers: x, gamma, beta, y, stats (f32 [rows, 4]: mean, 1 / sqrt(var + eps), 0, 0) and, when modulated, modulation
 * (f32 [batch, modulationStride]).
 */
export function layerNorm(
  target: Target,
  spec: { readonly x: DType; readonly y: DType; readonly param: DType; readonly modulated: boolean },
  shape: LayerNormShape,
): Launch {
  const lanes = lanesPerRow(target);
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
      spec: { x: spec.x, y: spec.y, param: spec.param, modulated: spec.modulated, lanes },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", "eps:f32", ...MODULATION_PARAMS],
      buffers,
      workgroupSize: THREADS,
      body: `${locateLanes(lanes)}${spec.modulated ? LOCATE_MODULATION : ""}
${each((i) => `  var t${i} = vec4f(0);`)}
${columns(lanes, each((i) => `    t${i} = t${i} + load_x(row${i} * params.width4 + c);`))}
  var sum = ${packed((i) => `dot(t${i}, vec4f(1))`)};
${sumLanes(lanes, "sum")}
  let mean = sum * params.inverse_width;
${each((i) => `  var q${i} = vec4f(0);`)}
${
        columns(
          lanes,
          each((i) =>
            `    { let v = load_x(row${i} * params.width4 + c) - mean.${component(i)}; q${i} = q${i} + v * v; }`
          ),
        )
      }
  var square = ${packed((i) => `dot(q${i}, vec4f(1))`)};
${sumLanes(lanes, "square")}
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
        columns(
          lanes,
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
    grid: foldGrid(Math.ceil(groups * lanes / THREADS)),
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
  const lanes = lanesPerRow(target);
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
      spec: { ...spec, lanes },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", ...MODULATION_PARAMS],
      buffers,
      workgroupSize: THREADS,
      body: `${locateLanes(lanes)}${spec.modulated ? LOCATE_MODULATION : ""}
${each((i) => `  let stats${i} = load_stats(row${i});\n  var p${i} = vec4f(0);\n  var q${i} = vec4f(0);`)}
${
        columns(
          lanes,
          `${weight}\n` + each((i) =>
            `    {
      ${load(i)}
      p${i} = p${i} + gw;
      q${i} = q${i} + gw * xhat;
    }`
          ),
        )
      }
  var sum = ${packed((i) => `dot(p${i}, vec4f(1))`)};
  var product = ${packed((i) => `dot(q${i}, vec4f(1))`)};
${sumLanes(lanes, "sum", "product")}
  sum = sum * params.inverse_width;
  product = product * params.inverse_width;
${
        columns(
          lanes,
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
    grid: foldGrid(Math.ceil(groups * lanes / THREADS)),
    flops: 14 * shape.rows * shape.width,
  };
}

/** y = x / sqrt(mean(x^2) + eps) * gamma over the channels of a row (T5). Buffers: x, gamma, y. */
export function rmsNorm(
  target: Target,
  spec: { readonly x: DType; readonly y: DType; readonly param: DType },
  shape: { readonly rows: number; readonly width: number; readonly eps: number },
): Launch {
  const lanes = lanesPerRow(target);
  const { params, groups } = rowGroups({ rows: shape.rows, sequence: shape.rows, textRows: 0 });
  return {
    kernel: buildKernel({
      name: "rms_norm",
      spec: { ...spec, lanes },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", "eps:f32"],
      buffers: [{ name: "x", dtype: spec.x }, { name: "gamma", dtype: spec.param }, { name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      body: `${locateLanes(lanes)}
${each((i) => `  var q${i} = vec4f(0);`)}
${
        columns(
          lanes,
          each((i) => `    { let v = load_x(row${i} * params.width4 + c); q${i} = q${i} + v * v; }`),
        )
      }
  var square = ${packed((i) => `dot(q${i}, vec4f(1))`)};
${sumLanes(lanes, "square")}
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
        columns(
          lanes,
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
    grid: foldGrid(Math.ceil(groups * lanes / THREADS)),
    flops: 4 * shape.rows * shape.width,
  };
}
