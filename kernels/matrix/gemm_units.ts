/**
 * Matrix products on matrix units: operands rounded to f16 under a power of two per row of A and column of B, sums in
 * f32. bf16 and f16 operands are exact within the range of kernels/core/half_scales.ts, f32 ones are rounded to 11
 * bits.
 */
import type { DType } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import type { GemmText } from "./gemm_launch.ts";
import type { GemmSpec } from "./gemm_shape.ts";
import { unitThreads, type UnitTile } from "./unit_tile.ts";
import { type Operand, stageOf, unitBody, unitDeclarations } from "./unit_text.ts";

/** An operand whose rows run along the depth: A [m, k], or B [n, k] of layout NT. */
function alongDepth(tile: UnitTile, name: "a" | "b", dtype: DType): Operand {
  const { groups, step } = stageOf(tile, { name, along: "depth" });
  const [origin, last] = name === "a" ? ["m0", "params.m - 1u"] : ["n0", "4u * params.n4 - 1u"];
  return {
    name,
    along: "depth",
    dtype,
    // Lines past the edge read the last one: what they sum is never stored.
    setup: unroll(
      groups,
      (i) => `let ${name}_at${i} = min(${origin} + ${name}_line + ${i * step}u, ${last}) * params.k4;`,
    ),
    fetch: unroll(
      groups,
      (i) => `${name}${i} = load_${name}(${name}_at${i} + min(d4 + ${name}_four, params.k4 - 1u));`,
    ),
    inside: () => `d4 + ${name}_four < last4`,
  };
}

/**
 * An operand whose rows run across the depth: B [k, n], or A [k, m] of layout TN. It begins at `start` of what `load`
 * reads.
 */
export function alongWidth(
  tile: UnitTile,
  name: "a" | "b",
  dtype: DType,
  { load = `load_${name}`, start = "" }: { readonly load?: string; readonly start?: string } = {},
): Operand {
  const { groups, step } = stageOf(tile, { name, along: "width" });
  const [origin, width4] = name === "a" ? ["m0", "(params.m / 4u)"] : ["n0", "params.n4"];
  const row = (i: number) => `4u * d4 + ${name}_line + ${i * step}u`;
  return {
    name,
    along: "width",
    dtype,
    setup: `let ${name}_column = min(${origin} / 4u + ${name}_four, ${width4} - 1u);`,
    fetch: unroll(
      groups,
      (i) => `${name}${i} = ${load}(${start}min(${row(i)}, params.k - 1u) * ${width4} + ${name}_column);`,
    ),
    inside: (i) => `${row(i)} < last`,
  };
}

/** The text of a tile. */
export function unitsText({ layout, a, b }: GemmSpec, tile: UnitTile): GemmText {
  const product = {
    tile,
    a: layout === "TN" ? alongWidth(tile, "a", a) : alongDepth(tile, "a", a),
    b: layout === "NT" ? alongDepth(tile, "b", b) : alongWidth(tile, "b", b),
  };
  return {
    name: "gemm_units",
    tile: { ...tile },
    workgroupSize: unitThreads(tile),
    units: true,
    rows: tile.rows,
    columns: tile.columns,
    declarations: () => unitDeclarations(product),
    body: (bias) => unitBody(product, { bias, parts: true }),
  };
}
