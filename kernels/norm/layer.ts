/**
 * Layer norm over the channels of each token, with the adaptive scale and shift of the conditioning, and T5's RMS norm:
 * every way to compute them, and which of them runs where nothing was measured.
 */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { buildKernel } from "../core/wgsl.ts";
import { hasSubgroups } from "../reduce/lanes.ts";
import { octetLayerNorm, octetLayerNormBackward, octetRmsNorm, octetWorkgroups } from "./layer_octets.ts";
import type { ColumnWeights, NormText } from "./layer_text.ts";
import {
  vectorsOf,
  WIDE_ROWS,
  WIDE_THREADS,
  wideLayerNorm,
  wideLayerNormBackward,
  wideRmsNorm,
  wideRuns,
  wideSuits,
} from "./layer_wide.ts";
import { GROUP_ROWS, probeRows, ROW_PARAMS, rowGroups, type SegmentRows } from "./rows.ts";

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

/** Element types of {@linkcode layerNorm}. */
export interface LayerNormSpec {
  readonly x: DType;
  readonly y: DType;
  readonly param: DType;
  readonly modulated: boolean;
}

/** Element types of {@linkcode layerNormBackward}. */
export interface LayerNormBackwardSpec {
  readonly x: DType;
  readonly g: DType;
  readonly dx: DType;
  readonly param: DType;
  readonly modulated: boolean;
  /** Adds to dx instead of replacing it. */
  readonly accumulate: boolean;
}

/** Element types of {@linkcode rmsNorm}. */
export interface RmsNormSpec {
  readonly x: DType;
  readonly y: DType;
  readonly param: DType;
}

/** Shape of {@linkcode rmsNorm}. */
export interface RmsNormShape {
  readonly rows: number;
  readonly width: number;
  readonly eps: number;
}

const MODULATION_PARAMS = ["stride4", "shift_text4", "scale_text4", "shift_video4", "scale_video4"];

function modulationValues(shape: LayerNormShape): number[] {
  const { modulationStride, shiftText, scaleText, shiftVideo, scaleVideo } = shape;
  return [modulationStride, shiftText, scaleText, shiftVideo, scaleVideo].map((v) => fours("modulation chunk", v));
}

const LOCATE_MODULATION = `
  let shift_at = b * params.stride4 + select(params.shift_video4, params.shift_text4, text);
  let scale_at = b * params.stride4 + select(params.scale_video4, params.scale_text4, text);`;

const modulationStart = ({ modulated }: { readonly modulated: boolean }): string => modulated ? LOCATE_MODULATION : "";

/** A norm of rows, and its texts for rows in octets of lanes and in workgroups. */
interface RowNorm<Spec> {
  readonly name: string;
  readonly writes: readonly string[];
  readonly octets: (weights: ColumnWeights, spec: Spec) => NormText;
  readonly wide: (weights: ColumnWeights, spec: Spec) => NormText;
  readonly start: (spec: Spec) => string;
  /** Declares what the norm multiplies and adds at column `c`. */
  readonly affine: (spec: Spec, c: string) => string;
  readonly buffers: (spec: Spec) => readonly BufferSpec[];
  /** Words beside those that every norm has. */
  readonly params: readonly string[];
  readonly values: (shape: LayerNormShape) => readonly number[];
  /** Arithmetic per element. */
  readonly flops: number;
}

/** By octets or by workgroups, and how many rows each has. */
interface Way {
  readonly isWide: boolean;
  readonly rows: number;
}

function launch<Spec extends object>(
  norm: RowNorm<Spec>,
  target: Target,
  spec: Spec,
  shape: LayerNormShape,
  { isWide, rows: size }: Way,
): Launch {
  const { rows, width } = shape;
  const { params, groups } = rowGroups(shape, size);
  const text = (): NormText => {
    const affine = (c: string) => norm.affine(spec, c);
    const weights = { target, width, rows: size, start: norm.start(spec), affine };
    return isWide ? norm.wide(weights, spec) : norm.octets(weights, spec);
  };
  return {
    kernel: buildKernel({
      name: isWide ? `${norm.name}_wide` : norm.name,
      spec: { ...spec, ...(isWide ? { vectors: vectorsOf(width), rows: size } : {}), subgroups: hasSubgroups(target) },
      params: [...ROW_PARAMS, "width4", "inverse_width:f32", ...norm.params],
      buffers: norm.buffers(spec),
      workgroupSize: isWide ? WIDE_THREADS : THREADS,
      declarations: () => text().declarations,
      body: () => text().body,
    }),
    params: [...params, fours("width", width), 1 / width, ...norm.values(shape)],
    grid: foldGrid(isWide ? groups : octetWorkgroups(groups)),
    flops: norm.flops * rows * width,
  };
}

function elementsOf(name: string, { rows, sequence, width, modulationStride }: LayerNormShape): number {
  if (name === "stats") return 4 * rows;
  if (name === "gamma" || name === "beta") return width;
  return name === "modulation" ? rows / sequence * modulationStride : rows * width;
}

function familyOf<Spec extends object>(norm: RowNorm<Spec>): Family<Spec, LayerNormShape> {
  const { name, writes } = norm;
  const variant = (name: string, way: Way): Variant<Spec, LayerNormShape> => ({
    name,
    applies: (target, _, { width }) => !way.isWide || wideRuns(target, width),
    work: (target, spec, shape) => ({ launches: [{ launch: launch(norm, target, spec, shape, way), writes }] }),
  });
  return {
    name,
    variants: [
      variant("octets", { isWide: false, rows: GROUP_ROWS }),
      ...Object.entries(WIDE_ROWS).map(([name, rows]) => variant(name, { isWide: true, rows })),
    ],
    prefer: (target, _, { width }) => wideSuits(target, width) ? "wide" : "octets",
    twin: "octets",
    traits: (spec, { rows, sequence, textRows, width }) => ({ ...spec, rows, sequence, textRows, width }),
    operands: (spec, shape) =>
      Object.fromEntries(norm.buffers(spec).map(({ name }) => [name, elementsOf(name, shape)])),
    probe: (shape) => ({ ...shape, ...probeRows(shape) }),
  };
}

/** The families of the three norms. */
export const rowNormFamilies = {
  layerNorm: familyOf<LayerNormSpec>({
    name: "layer_norm",
    writes: ["y", "stats"],
    octets: octetLayerNorm,
    wide: wideLayerNorm,
    start: modulationStart,
    affine: ({ modulated }, c) =>
      modulated
        ? `    let scale = vec4f(1) + load_modulation(scale_at + ${c});
    let a = load_gamma(${c}) * scale;
    let d = load_beta(${c}) * scale + load_modulation(shift_at + ${c});`
        : `    let a = load_gamma(${c});
    let d = load_beta(${c});`,
    buffers: ({ x, y, param, modulated }) => [
      { name: "x", dtype: x },
      { name: "gamma", dtype: param },
      { name: "beta", dtype: param },
      { name: "y", dtype: y },
      { name: "stats", dtype: "f32" },
      ...modulation(modulated),
    ],
    params: ["eps:f32", ...MODULATION_PARAMS],
    values: (shape) => [shape.eps, ...modulationValues(shape)],
    flops: 8,
  }),
  layerNormBackward: familyOf<LayerNormBackwardSpec>({
    name: "layer_norm_backward",
    writes: ["dx"],
    octets: (weights, { accumulate }) => octetLayerNormBackward(weights, accumulate),
    wide: (weights, { accumulate }) => wideLayerNormBackward(weights, accumulate),
    start: modulationStart,
    affine: ({ modulated }, c) =>
      modulated
        ? `    let weight = load_gamma(${c}) * (vec4f(1) + load_modulation(scale_at + ${c}));`
        : `    let weight = load_gamma(${c});`,
    buffers: ({ x, g, dx, param, modulated }) => [
      { name: "x", dtype: x },
      { name: "stats", dtype: "f32" },
      { name: "gamma", dtype: param },
      { name: "g", dtype: g },
      { name: "dx", dtype: dx },
      ...modulation(modulated),
    ],
    params: MODULATION_PARAMS,
    values: modulationValues,
    flops: 14,
  }),
  rmsNorm: familyOf<RmsNormSpec>({
    name: "rms_norm",
    writes: ["y"],
    octets: octetRmsNorm,
    wide: wideRmsNorm,
    start: () => "",
    affine: (_, c) => `    let gamma = load_gamma(${c});`,
    buffers: ({ x, y, param }) => [{ name: "x", dtype: x }, { name: "gamma", dtype: param }, { name: "y", dtype: y }],
    params: ["eps:f32"],
    values: ({ eps }) => [eps],
    flops: 4,
  }),
};

function modulation(modulated: boolean): BufferSpec[] {
  return modulated ? [{ name: "modulation", dtype: "f32" }] : [];
}

/**
 * y = (xhat * gamma + beta) * (1 + scale) + shift with xhat = (x - mean) / sqrt(var + eps) over the channels of a row,
 * biased variance. Operands: x, gamma, beta, y, stats (f32 [rows, 4]: mean, 1 / sqrt(var + eps), 0, 0) and, when
 * modulated, modulation (f32 [batch, modulationStride]).
 */
export function layerNorm(target: Target, spec: LayerNormSpec, shape: LayerNormShape): Work {
  return solve(rowNormFamilies.layerNorm, target, spec, shape);
}

/**
 * dx = rs * (gw - mean(gw) - xhat * mean(gw * xhat)) with gw = g * (1 + scale) * gamma; `accumulate` adds it to dx.
 * Operands: x, stats (of the forward), gamma, g, dx and, when modulated, modulation.
 */
export function layerNormBackward(target: Target, spec: LayerNormBackwardSpec, shape: LayerNormShape): Work {
  return solve(rowNormFamilies.layerNormBackward, target, spec, shape);
}

/** y = x / sqrt(mean(x^2) + eps) * gamma over the channels of a row (T5). Operands: x, gamma, y. */
export function rmsNorm(target: Target, spec: RmsNormSpec, { rows, width, eps }: RmsNormShape): Work {
  const segments = { rows, sequence: rows, textRows: 0 };
  const none = { modulationStride: 0, shiftText: 0, scaleText: 0, shiftVideo: 0, scaleVideo: 0 };
  return solve(rowNormFamilies.rmsNorm, target, spec, { ...segments, width, eps, ...none });
}
