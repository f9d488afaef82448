/**
 * Matrix products in three layouts with a fused epilogue: every way to compute them, and which of them runs where
 * nothing was measured.
 */
import type { Target, Work } from "../core/kernel.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { type GemmText, gemmTiles, gemmWork } from "./gemm_launch.ts";
import { registerText, type RegisterTile } from "./gemm_register.ts";
import { checkGemm, type Extent, type GemmShape, type GemmSpec } from "./gemm_shape.ts";
import { STAGED_TILES, stagedName, stagedRuns, stagedText } from "./gemm_staged.ts";
import { unitsText } from "./gemm_units.ts";
import { UNIT_SIZES, unitName, unitTile } from "./unit_tile.ts";

/**
 * Shortest depth worth a part of its own: below it, writing and summing the partial products costs more than it
 * spreads.
 */
const SHORTEST_PART = 256;

/** Largest buffer of partial products in bytes: what every adapter can bind. */
const LARGEST_PARTIALS = 128 * 2 ** 20;

/** Parts of the depth so that a product with few output tiles still fills the device; 1 means undivided. */
function partsOf({ subgroups }: Target, extent: Extent, text: GemmText): number {
  const { down, across } = gemmTiles(text, extent);
  // A GPU wants several workgroups on each of about a hundred multiprocessors; a software adapter has a few cores.
  const wanted = subgroups >= 16 ? 512 : 16;
  return Math.max(
    1,
    Math.min(
      Math.ceil(wanted / (down * across)),
      Math.floor(extent.k / SHORTEST_PART),
      Math.floor(LARGEST_PARTIALS / (4 * extent.m * extent.n)),
    ),
  );
}

type GemmVariant = Variant<GemmSpec, GemmShape>;

function variant(
  name: string,
  applies: (target: Target) => boolean,
  textOf: (target: Target, spec: GemmSpec) => GemmText,
): GemmVariant {
  return {
    name,
    applies,
    work(target, spec, shape) {
      const text = textOf(target, spec);
      return gemmWork(spec, shape, partsOf(target, shape, text), text);
    },
  };
}

/**
 * Tiles in registers. Lanes of one subgroup have to share their rows, whatever size the driver picks between its
 * smallest and largest: with 8 lanes a workgroup is one row of threads; from 16 up, twice the smallest size covers the
 * drivers that double it.
 */
function register(
  name: string,
  applies: (subgroups: number) => boolean,
  tileOf: (subgroups: number) => RegisterTile,
): GemmVariant {
  return variant(
    name,
    ({ subgroups }) => applies(subgroups),
    ({ subgroups }, spec) => registerText(spec, tileOf(subgroups)),
  );
}

const isNarrow = (subgroups: number): boolean => subgroups > 0 && subgroups < 16;
const isWide = (subgroups: number): boolean => subgroups >= 16;

const variants: readonly GemmVariant[] = [
  register("plain", () => true, () => ({ rows: 8, vectors: 2, lanes: 16, groups: 4, broadcast: false })),
  register("plain flat", () => true, () => ({ rows: 8, vectors: 2, lanes: 16, groups: 1, broadcast: false })),
  ...[8, 32, 64].map((rows) =>
    register(`lanes ${rows}`, isNarrow, () => ({ rows, vectors: 1, lanes: 8, groups: 1, broadcast: true }))
  ),
  register("wide 8", isWide, (subgroups) => ({
    rows: 8,
    vectors: 1,
    lanes: 2 * subgroups,
    groups: 1,
    broadcast: true,
  })),
  register("wide 32", isWide, (subgroups) => ({
    rows: 16,
    vectors: 2,
    lanes: 2 * subgroups,
    groups: 2,
    broadcast: true,
  })),
  ...STAGED_TILES.map(({ name, tile }) =>
    variant(name, (target) => stagedRuns(target, tile), (_, spec) => stagedText(spec, tile))
  ),
  ...UNIT_SIZES.map(({ name, size }) =>
    variant(
      name,
      (target) => unitTile(target, size) !== undefined,
      (target, spec) => unitsText(spec, unitTile(target, size)!),
    )
  ),
];

/**
 * Multiply-adds from which the tile of 64 rows pays on a software adapter: it runs 10 to 20 % faster than 32 rows
 * (fewer loads per multiply-add) and compiles half a second longer. 64 x 8 is slower than both and compiles two
 * seconds.
 */
const LARGE_PRODUCT = 2 ** 30;

/** Few rows (modulation vectors) take the shallow tile, which loads hardly more than one row would. */
function prefer(target: Target, _: GemmSpec, { m, n, k }: GemmShape): string {
  const { subgroups } = target;
  const shallow = m <= 8;
  if (shallow) return subgroups === 0 ? "plain flat" : isNarrow(subgroups) ? "lanes 8" : "wide 8";
  const onUnits = unitName(target, { m, n });
  if (onUnits !== undefined) return onUnits;
  if (subgroups === 0) return "plain";
  if (isNarrow(subgroups)) return m * n * k < LARGE_PRODUCT ? "lanes 32" : "lanes 64";
  return stagedName(target, { m, n }) ?? "wide 32";
}

const family: Family<GemmSpec, GemmShape> = {
  name: "gemm",
  variants,
  prefer,
  twin: "plain",
  traits: ({ layout, a, b, c, bias = "none", accumulate = false, activation = "none" }, { m, n, k }) => ({
    layout,
    a,
    b,
    c,
    bias,
    accumulate,
    activation,
    m,
    n,
    k,
  }),
  operands: ({ bias }, { m, n, k }) => ({ a: m * k, b: n * k, c: m * n, ...(bias === undefined ? {} : { bias: n }) }),
  probe: ({ m, n, k, ...rest }) => ({ m: Math.min(m, 132), n: Math.min(n, 140), k: Math.min(k, 300), ...rest }),
};

/**
 * C[m,n] = activation(alpha * op(A) op(B) + bias), plus C when accumulating. Operands: a, b, c, then bias if present.
 * Sums in f32 in a fixed order; a long depth with few output tiles is cut into parts that are summed afterwards.
 *
 * @throws {RangeError} as {@linkcode checkGemm}.
 */
export function gemm(target: Target, spec: GemmSpec, shape: GemmShape): Work {
  checkGemm(spec, shape);
  return solve(family, target, spec, shape);
}

export { family as gemmFamily };
