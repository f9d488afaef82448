/**
 * Kernels of weight-decomposed adapters (DoRA, arXiv:2402.09353): norms of the rows of W + s B A, and scaling by row.
 */
import { type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { solve } from "../core/variants.ts";
import { columnFamily, matrixColumns, probeMatrix, type RowsShape } from "../reduce/columns.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "../reduce/lanes.ts";

/** Rows of one workgroup: as many as a vector of results has components. */
const ROWS = 4;

/**
 * norms[o] = |W_o + s B_o A| from |W_o|^2 + B_o . (2 s P_o + s^2 Q_o), with P = W A^T and Q = B A A^T, so that the sum
 * of the two matrices is never made. Buffers: weight [out, in], up = B [out, rank], cross = P, square = Q (f32,
 * likewise), norms (f32 [out]).
 */
export function adaptedNorms(
  target: Target,
  spec: { readonly weight: DType; readonly up: DType },
  { out, width, rank, scale }: {
    readonly out: number;
    readonly width: number;
    readonly rank: number;
    readonly scale: number;
  },
): Launch {
  const groups = fours("rows", out);
  return {
    kernel: buildKernel({
      name: "adapted_norms",
      spec: { ...spec, subgroups: hasSubgroups(target) },
      params: ["width4", "rank4", "groups", "twice:f32", "squared:f32"],
      buffers: [
        { name: "weight", dtype: spec.weight },
        { name: "up", dtype: spec.up },
        { name: "cross", dtype: "f32" },
        { name: "square", dtype: "f32" },
        { name: "norms", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${
        unroll(ROWS, (i) => `  var s${i} = vec4f(0);\n  let row${i} = min(wg, params.groups - 1u) * ${ROWS}u + ${i}u;`)
      }
  for (var c = li; c < params.width4; c += ${THREADS}u) {
${unroll(ROWS, (i) => `    { let v = load_weight(row${i} * params.width4 + c); s${i} = s${i} + v * v; }`)}
  }
  for (var c = li; c < params.rank4; c += ${THREADS}u) {
${
        unroll(ROWS, (i) =>
          `    { let at = row${i} * params.rank4 + c;
      s${i} = s${i} + load_up(at) * (params.twice * load_cross(at) + params.squared * load_square(at)); }`)
      }
  }
  let sums = vec4f(${Array.from({ length: ROWS }, (_, i) => `dot(s${i}, vec4f(1))`).join(", ")});
${sumWorkgroup("sums")}
  if (li == 0u && wg < params.groups) { store_norms(wg, sqrt(max(total, vec4f(0)))); }`,
    }),
    params: [fours("width", width), fours("rank", rank), groups, 2 * scale, scale * scale],
    grid: foldGrid(groups),
    flops: 2 * out * width + 5 * out * rank,
  };
}

/**
 * `over_norms(a, n, none)` is a / n, and `none` where n is 0: a row of zeros has no direction. Its u is 0, and so is y
 * whatever the factor; peft divides by 0 there and trains on NaN. A factor of 1 is that of all rows at the start, where
 * m = n, and lets B leave 0 as in an adapter that is not decomposed, where m / 1 = 0 would hold it there for good.
 */
const OVER_NORMS = `fn over_norms(a: vec4f, n: vec4f, none: f32) -> vec4f {
  let zero = n == vec4f(0);
  return select(a / select(n, vec4f(1), zero), vec4f(none), zero);
}`;

/**
 * y = u m / n + b by column; y = u + b where n is 0. Buffers: u [rows, width], magnitude, norms (f32 [width]), bias
 * where there is one, y.
 */
export function scaleColumns(
  spec: { readonly u: DType; readonly y: DType; readonly bias: DType | "none" },
  { rows, width }: { readonly rows: number; readonly width: number },
): Launch {
  const width4 = fours("width", width);
  const bias = spec.bias === "none" ? [] : [{ name: "bias", dtype: spec.bias }];
  return {
    kernel: buildKernel({
      name: "scale_columns",
      spec: { ...spec },
      params: ["count4", "width4"],
      buffers: [
        { name: "u", dtype: spec.u },
        { name: "magnitude", dtype: "f32" },
        { name: "norms", dtype: "f32" },
        ...bias,
        { name: "y", dtype: spec.y },
      ],
      workgroupSize: THREADS,
      declarations: OVER_NORMS,
      body: `
  if (gid < params.count4) {
    let c = gid % params.width4;
    store_y(gid, load_u(gid) * over_norms(load_magnitude(c), load_norms(c), 1)${
        spec.bias === "none" ? "" : " + load_bias(c)"
      });
  }`,
    }),
    params: [rows * width4, width4],
    grid: foldGrid(Math.ceil(rows * width4 / THREADS)),
    flops: 3 * rows * width,
  };
}

/** Element types of {@linkcode magnitudeSums}. */
export interface MagnitudeSpec extends Readonly<Record<string, DType>> {
  readonly g: DType;
  readonly u: DType;
}

/** The family of the magnitudes' gradients. */
export const magnitudeFamily = columnFamily<MagnitudeSpec, RowsShape>({
  name: "magnitude_sums",
  kernel: ({ g, u }) => ({
    inputs: [{ name: "g", dtype: g }, { name: "u", dtype: u }, { name: "norms", dtype: "f32" }],
    sums: 1,
    declarations: OVER_NORMS,
    perRow: "s0 = s0 + over_norms(load_g(at) * load_u(at), load_norms(column), 0);",
    flopsPerElement: 3,
  }),
  columns: matrixColumns,
  output: () => ({ accumulate: true, total: true, stride: 0, textOffset: 0, videoOffset: 0 }),
  elements: ({ width }) => ({ norms: width, out: width }),
  probe: probeMatrix,
});

/**
 * dm[c] += sum over rows of g u / n, 0 where n is 0. Operands: g, u [rows, width], norms (f32 [width]), out (f32
 * [width]).
 */
export function magnitudeSums(target: Target, spec: MagnitudeSpec, shape: RowsShape): Work {
  return solve(magnitudeFamily, target, spec, shape);
}
