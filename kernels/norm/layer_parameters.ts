/** Gradients of layer norm's gamma and beta and of the modulation, from column sums over the rows of each segment. */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { solve } from "../core/variants.ts";
import type { LayerNormShape } from "./layer.ts";
import { columnFamily, type ColumnShape, probeSequence } from "../reduce/columns.ts";
import { buildKernel } from "../core/wgsl.ts";

function columnShape({ rows, sequence, textRows, width }: LayerNormShape): ColumnShape {
  return { batch: rows / sequence, sequence, textRows, width };
}

/** Element types of {@linkcode layerNormColumns}. */
export interface LayerNormColumnsSpec extends Readonly<Record<string, DType>> {
  readonly x: DType;
  readonly g: DType;
}

/** The family of the sums over rows. */
export const layerNormColumnsFamily = columnFamily<LayerNormColumnsSpec, LayerNormShape>({
  name: "layer_norm_columns",
  kernel: ({ x, g }) => ({
    inputs: [{ name: "x", dtype: x }, { name: "stats", dtype: "f32" }, { name: "g", dtype: g }],
    sums: 2,
    perRow: `let stats = load_stats(row);
      let g = load_g(at);
      s0 = s0 + g;
      s1 = s1 + g * ((load_x(at) - stats.x) * stats.y);`,
    flopsPerElement: 5,
  }),
  columns: columnShape,
  output: (_, { width }) => {
    return { accumulate: false, total: false, stride: 4 * width, textOffset: 0, videoOffset: 2 * width };
  },
  elements: (shape) => ({ stats: 4 * shape.rows, out: layerNormSums(shape) }),
  probe: (shape) => {
    const short = probeSequence(shape);
    return { ...shape, ...short, rows: shape.rows / shape.sequence * short.sequence };
  },
});

/** Elements of the sums: f32 [batch, 2 (text, video), 2 (S1, S2), width]. */
export function layerNormSums({ rows, sequence, width }: LayerNormShape): number {
  return rows / sequence * 4 * width;
}

/** S1 = sum g and S2 = sum g * xhat over rows. Operands: x, stats (of the forward), g, out. */
export function layerNormColumns(target: Target, spec: LayerNormColumnsSpec, shape: LayerNormShape): Work {
  return solve(layerNormColumnsFamily, target, spec, shape);
}

/**
 * dGamma += sum of (1 + scale) * S2 and dBeta += sum of (1 + scale) * S1 over batch and segments; when modulated also
 * dShift = S1 and dScale = gamma * S2 + beta * S1, written at the chunks of dModulation (f32 [batch,
 * modulationStride]). Buffers: sums, dGamma, dBeta (both f32) and, when modulated, gamma, beta, modulation,
 * dModulation.
 */
export function layerNormParameters(
  spec: { readonly param: DType; readonly modulated: boolean },
  shape: LayerNormShape,
): Launch {
  const { batch, width } = columnShape(shape);
  const width4 = fours("width", width);
  const buffers: BufferSpec[] = [
    { name: "sums", dtype: "f32" },
    { name: "d_gamma", dtype: "f32" },
    { name: "d_beta", dtype: "f32" },
  ];
  if (spec.modulated) {
    buffers.push({ name: "gamma", dtype: spec.param }, { name: "beta", dtype: spec.param });
    buffers.push({ name: "modulation", dtype: "f32" }, { name: "d_modulation", dtype: "f32" });
  }
  // Text before video: where a norm has no text rows both chunks have one place, and the video sums must remain there.
  const segment = (name: string, index: number) => `
      {
        let s1 = load_sums((b * 4u + ${2 * index}u) * params.width4 + gid);
        let s2 = load_sums((b * 4u + ${2 * index + 1}u) * params.width4 + gid);
${
    spec.modulated
      ? `        let weight = vec4f(1) + load_modulation(b * params.stride4 + params.scale_${name}4 + gid);
        store_d_modulation(b * params.stride4 + params.shift_${name}4 + gid, s1);
        store_d_modulation(b * params.stride4 + params.scale_${name}4 + gid, gamma * s2 + beta * s1);
        d_g = d_g + weight * s2;
        d_b = d_b + weight * s1;`
      : `        d_g = d_g + s2;
        d_b = d_b + s1;`
  }
      }`;
  return {
    kernel: buildKernel({
      name: "layer_norm_parameters",
      spec: spec.modulated ? { param: spec.param, modulated: true } : { modulated: false },
      params: ["batch", "width4", "stride4", "shift_text4", "scale_text4", "shift_video4", "scale_video4"],
      buffers,
      workgroupSize: THREADS,
      body: `
  if (gid < params.width4) {
    var d_g = vec4f(0);
    var d_b = vec4f(0);
${spec.modulated ? "    let gamma = load_gamma(gid);\n    let beta = load_beta(gid);" : ""}
    for (var b = 0u; b < params.batch; b++) {${segment("text", 0)}${segment("video", 1)}
    }
    store_d_gamma(gid, load_d_gamma(gid) + d_g);
    store_d_beta(gid, load_d_beta(gid) + d_b);
  }`,
    }),
    params: [
      batch,
      width4,
      ...[shape.modulationStride, shape.shiftText, shape.scaleText, shape.shiftVideo, shape.scaleVideo].map((v) =>
        fours("modulation chunk", v)
      ),
    ],
    grid: foldGrid(Math.ceil(width4 / THREADS)),
    flops: 12 * batch * width,
  };
}
