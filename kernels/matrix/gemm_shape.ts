/** What every matrix product is given: layout and storage of the operands, the epilogue, and sizes. */
import { type DType, MOST_ITERATIONS } from "../core/kernel.ts";

/**
 * Which operand is stored transposed. NN: A[M,K] B[K,N]; NT: A[M,K] B[N,K] (y = x W^T); TN: A[K,M] B[K,N] (dW = g^T x).
 */
export type Layout = "NN" | "NT" | "TN";

/** What decides the text of a matrix product. All matrices are row-major and contiguous. */
export interface GemmSpec {
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

/** The sizes of a product C[m,n] = op(A) op(B) summed over k. */
export interface Extent {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Sizes of C[m,n] summed over k, and the factor of the product. */
export interface GemmShape extends Extent {
  /** Default 1. */
  readonly alpha?: number;
}

/**
 * Refuses sizes that no kernel serves.
 *
 * @throws {RangeError} naming every one: n and k (n and m in layout TN) that are no positive multiples of 4, k above
 * 262,140.
 */
export function checkGemm({ layout }: GemmSpec, { m, n, k }: GemmShape): void {
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

/** Workgroups that a GPU wants at least: two on each of about a hundred multiprocessors. */
const WANTED_TILES = 256;

/** Name of the first tile, the largest first, of which a product makes enough workgroups, else of the last. */
export function preferTile(
  tiles: readonly { readonly name: string; readonly rows: number; readonly columns: number }[],
  { m, n }: Pick<Extent, "m" | "n">,
): string | undefined {
  const enough = tiles.find(({ rows, columns }) => Math.ceil(m / rows) * Math.ceil(n / columns) >= WANTED_TILES);
  return (enough ?? tiles.at(-1))?.name;
}
