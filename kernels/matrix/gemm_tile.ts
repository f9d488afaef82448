/** Which register tile a matrix product uses, and into how many parts its depth is cut. */
import type { Target } from "../core/kernel.ts";

/** The part of C that one thread and one workgroup own. */
export interface Tile {
  /** Rows of C per thread. */
  readonly rows: number;
  /** Groups of four columns of C per thread; they lie `lanes` groups apart, so neighbouring threads read neighbours. */
  readonly vectors: number;
  /** Threads of a workgroup along the columns. */
  readonly lanes: number;
  /** Threads of a workgroup along the rows. */
  readonly groups: number;
  /** Whether the rows of the left operand are loaded once per 8 lanes and broadcast. */
  readonly broadcast: boolean;
}

/** The sizes of a product C[m,n] = op(A) op(B) summed over k. */
export interface Extent {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * Multiply-adds from which the tile of 64 rows pays on a software adapter: it runs 10 to 20 % faster than 32 rows (fewer loads
 * per multiply-add) and compiles half a second longer. 64 x 8 is slower than both and compiles two seconds.
 */
const LARGE_PRODUCT = 2 ** 30;

/**
 * The tile of a product. Few rows (modulation vectors) take the shallow tile, which loads hardly more than one row would.
 *
 * Lanes of one subgroup have to share their rows, whatever size the driver picks between its smallest and largest: with
 * 8 lanes a workgroup is one row of threads; from 16 up, twice the smallest size covers the drivers that double it.
 */
export function gemmTile({ subgroups }: Target, { m, n, k }: Extent): Tile {
  if (subgroups === 0) return { rows: 8, vectors: 2, lanes: 16, groups: m <= 8 ? 1 : 4, broadcast: false };
  const shallow = m <= 8;
  if (subgroups < 16) {
    return shallow
      ? { rows: 8, vectors: 1, lanes: 8, groups: 1, broadcast: true }
      : { rows: m * n * k < LARGE_PRODUCT ? 32 : 64, vectors: 1, lanes: 8, groups: 1, broadcast: true };
  }
  return shallow
    ? { rows: 8, vectors: 1, lanes: 2 * subgroups, groups: 1, broadcast: true }
    : { rows: 16, vectors: 2, lanes: 2 * subgroups, groups: 2, broadcast: true };
}

/** Workgroups along the rows and columns of C. */
export function gemmTiles(tile: Tile, { m, n }: Extent): { readonly down: number; readonly across: number } {
  return {
    down: Math.ceil(m / (tile.rows * tile.groups)),
    across: Math.ceil(n / (4 * tile.vectors * tile.lanes)),
  };
}

/** Shortest depth worth a part of its own: below it, writing and summing the partial products costs more than it spreads. */
const SHORTEST_PART = 256;

/** Largest buffer of partial products in bytes: what every adapter can bind. */
const LARGEST_PARTIALS = 128 * 2 ** 20;

/** Parts of the depth so that a product with few output tiles still fills the device; 1 means undivided. */
export function depthParts(target: Target, extent: Extent): number {
  const { down, across } = gemmTiles(gemmTile(target, extent), extent);
  // A GPU wants several workgroups on each of about a hundred multiprocessors; a software adapter has a few cores.
  const wanted = target.subgroups >= 16 ? 512 : 16;
  return Math.max(
    1,
    Math.min(
      Math.ceil(wanted / (down * across)),
      Math.floor(extent.k / SHORTEST_PART),
      Math.floor(LARGEST_PARTIALS / (4 * extent.m * extent.n)),
    ),
  );
}
