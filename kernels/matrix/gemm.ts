/** Matrix products in three layouts with a fused epilogue, whole or in parts of the depth that are summed afterwards. */
import {
  type BufferSpec,
  type DType,
  foldGrid,
  type Launch,
  MOST_ITERATIONS,
  type Target,
  THREADS,
} from "../core/kernel.ts";
import { buildKernel } from "../core/wgsl.ts";
import { epilogueText, gemmBody, type Layout, operandLoader } from "./gemm_text.ts";
import { depthParts, type Extent, gemmTile, gemmTiles, type Tile } from "./gemm_tile.ts";

/** What decides the text of a matrix product. */
export interface GemmSpec {
  /** NN: A[M,K] B[K,N]; NT: B[N,K] (y = x W^T); TN: A[K,M] (dW = g^T x). All row-major and contiguous. */
  readonly layout: Layout;
  readonly a: DType;
  readonly b: DType;
  readonly c: DType;
  /** Adds a vector [N] stored as this type to every row. */
  readonly bias?: DType;
  /** Adds to C instead of replacing it; the sum is made before rounding to the storage type. */
  readonly accumulate?: boolean;
  /** Applied after the bias: tanh-approximated GELU, or SiLU. */
  readonly activation?: "gelu" | "silu";
}

/** Sizes of C[m,n] summed over k, and the factor of the product. */
export interface GemmShape extends Extent {
  /** Default 1. */
  readonly alpha?: number;
}

function checkShape({ layout }: GemmSpec, { m, n, k }: GemmShape): void {
  const problems = Object.entries({ m, n, k })
    .filter(([, size]) => !Number.isInteger(size) || size < 1)
    .map(([name, size]) => `${name} is ${size}, expected a whole number from 1 up`);
  // In layout TN the depth counts rows of both operands, so it may be odd.
  const fours = layout === "TN" ? { m, n } : { n, k };
  for (const [name, size] of Object.entries(fours)) {
    if (size % 4 !== 0) problems.push(`${name} is ${size}, expected a multiple of 4`);
  }
  if (k / 4 > MOST_ITERATIONS) problems.push(`k is ${k}, expected at most ${4 * MOST_ITERATIONS}`);
  if (problems.length > 0) throw new RangeError(`Cannot multiply matrices (${layout}): ${problems.join("; ")}`);
}

const PARAMS = ["m", "n4", "k", "k4", "across", "tiles", "parts", "depth", "alpha:f32"] as const;

function launchTile(
  spec: GemmSpec,
  { m, n, k, alpha = 1 }: GemmShape,
  tile: Tile,
  parts: number,
  partial: boolean,
): Launch {
  const { layout, a, b, c, bias, accumulate = false, activation } = spec;
  const { down, across } = gemmTiles(tile, { m, n, k });
  const buffers: BufferSpec[] = [{ name: "a", dtype: a }, { name: "b", dtype: b }, { name: "c", dtype: c }];
  if (bias !== undefined) buffers.push({ name: "bias", dtype: bias });
  const kernel = buildKernel({
    name: partial ? "gemm_partial" : "gemm",
    spec: { layout, a, b, c, bias: bias ?? "none", accumulate, activation: activation ?? "none", ...tile },
    params: PARAMS,
    buffers,
    workgroupSize: tile.lanes * tile.groups,
    lane: tile.broadcast,
    declarations: () =>
      [
        operandLoader("A", "a", layout === "TN" ? "(params.m / 4u)" : "params.k4"),
        operandLoader("B", "b", layout === "NT" ? "params.k4" : "params.n4"),
        epilogueText(spec),
        `fn finish(part: u32, row: u32, col4: u32, sum: vec4f, shift: vec4f) {
  let index = (part * params.m + row) * params.n4 + col4;
  store_c(index, ${partial ? "sum" : "epilogue(sum, index, shift)"});
}`,
      ].join("\n"),
    body: () => gemmBody(layout, tile, bias !== undefined),
  });
  const tiles = down * across;
  return {
    kernel,
    params: [m, n / 4, k, Math.ceil(k / 4), across, tiles, parts, Math.ceil(Math.ceil(k / 4) / parts), alpha],
    grid: foldGrid(tiles * parts),
    flops: 2 * m * n * k,
  };
}

/**
 * C[m,n] = activation(alpha * op(A) op(B) + bias), plus C when accumulating. Buffers: a, b, c, then bias if present.
 * Sums in f32 in a fixed order; every tile serves every size.
 *
 * @throws {RangeError} when n and k (n and m in layout TN) are not positive multiples of 4, or k exceeds 262,140.
 */
export function gemm(
  target: Target,
  spec: GemmSpec,
  shape: GemmShape,
  tile: Tile = gemmTile(target, shape),
): Launch {
  checkShape(spec, shape);
  return launchTile(spec, shape, tile, 1, false);
}

/** Into how many parts to cut the depth of a product with few output tiles; 1 means {@linkcode gemm} fills the device. */
export function splitK(target: Target, spec: GemmSpec, shape: GemmShape): number {
  checkShape(spec, shape);
  return depthParts(target, shape);
}

/**
 * The products of `splits` equal parts of the depth. Buffers: a, b, c, where c holds f32 partial products [splits, m, n];
 * {@linkcode sumPartials} adds them and applies what the spec asks for.
 *
 * @throws {RangeError} as {@linkcode gemm}.
 */
export function gemmPartial(target: Target, spec: GemmSpec, shape: GemmShape, splits: number): Launch {
  checkShape(spec, shape);
  const { layout, a, b } = spec;
  return launchTile({ layout, a, b, c: "f32" }, shape, gemmTile(target, shape), splits, true);
}

/**
 * Adds the partial products of {@linkcode gemmPartial} in order and applies scale, bias, activation and accumulation.
 * Buffers: partials (f32 [splits, m, n]), c, then bias if present.
 *
 * @throws {RangeError} as {@linkcode gemm}.
 */
export function sumPartials(spec: GemmSpec, shape: GemmShape, splits: number): Launch {
  checkShape(spec, shape);
  const { c, bias, accumulate = false, activation } = spec;
  const { m, n, alpha = 1 } = shape;
  const buffers: BufferSpec[] = [{ name: "partials", dtype: "f32" }, { name: "c", dtype: c }];
  if (bias !== undefined) buffers.push({ name: "bias", dtype: bias });
  const count = m * n / 4;
  const kernel = buildKernel({
    name: "gemm_sum",
    spec: { c, bias: bias ?? "none", accumulate, activation: activation ?? "none" },
    params: ["count", "n4", "parts", "alpha:f32"],
    buffers,
    workgroupSize: THREADS,
    declarations: epilogueText(spec),
    body: `if (gid >= params.count) { return; }
var sum = vec4f(0);
for (var part = 0u; part < params.parts; part++) { sum = sum + load_partials(part * params.count + gid); }
store_c(gid, epilogue(sum, gid, ${bias === undefined ? "vec4f(0)" : "load_bias(gid % params.n4)"}));`,
  });
  return {
    kernel,
    params: [count, n / 4, splits, alpha],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: m * n * splits,
  };
}
