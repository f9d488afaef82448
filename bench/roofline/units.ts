/** Loads of the kernels on matrix units. */
import { KEY_VALUE_UNITS, QUERY_UNITS } from "../../kernels/attention/backward_units.ts";
import { FORWARD_UNITS } from "../../kernels/attention/forward_units.ts";
import {
  ATTENTION_SIZES,
  attentionBytes,
  type AttentionSize,
  attentionTile,
  type Kept,
} from "../../kernels/attention/unit_tile.ts";
import { plainTarget, type Target } from "../../kernels/core/kernel.ts";
import { UNIT_SIZES, unitBytes, type UnitSize, unitTile } from "../../kernels/matrix/unit_tile.ts";
import { BYTES, deviceBytes, HEAD, type Load, type ModelShape, type Product, type Sized } from "./load.ts";

/** NVIDIA's unit and subgroup; the others differ in how many instructions make a tile, hardly in bytes. */
const card: Target = {
  ...plainTarget(32),
  workgroupBytes: 64 * 1024,
  matrix: [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }],
  f16: true,
  mixed: true,
};

function onUnits(flops: number): Load["arithmetic"] {
  return { name: "units", time: ({ unitTflops }) => flops / unitTflops };
}

/** A product with bf16 operands and result. */
function product(shape: Product, { name, size }: Sized<UnitSize>): Load {
  const { problem, m, n, k } = shape;
  const { down, across, rows, columns, depth } = size;
  const tiles = Math.ceil(m / rows) * Math.ceil(n / columns);
  const steps = Math.ceil(k / depth);
  const threads = 32 * down * across;
  const loaded = down * across * (rows / down + columns / across) * depth;
  const flops = 2 * m * n * k;
  return {
    problem,
    variant: name,
    flops,
    device: deviceBytes(shape),
    l2: tiles * BYTES * (steps * (rows + columns) * depth + rows * columns),
    // Staged and loaded as f16; sums are written and read once as f32.
    workgroup: tiles * (steps * 2 * ((rows + columns) * depth + loaded) + 8 * rows * columns),
    registers: rows * columns / threads + (rows / down / 16 + 1) * 4 + (rows + columns) * depth * BYTES / 4 / threads,
    threads,
    memory: unitBytes(unitTile(card, size)!),
    arithmetic: onUnits(flops),
  };
}

/** A product in every size. */
export function unitProducts(shape: Product): Load[] {
  return UNIT_SIZES.filter(({ size }) => size.buffers === 1).map((size) => product(shape, size));
}

interface Pass {
  readonly name: string;
  readonly kept: Kept;
  /** Products of whole matrices, operands of a row that a workgroup owns, and sums it keeps. */
  readonly products: number;
  readonly own: number;
  readonly sums: number;
}

const PASSES: readonly Pass[] = [
  { name: "attention forward", kept: FORWARD_UNITS.kept, products: 2, own: 1, sums: 1 },
  { name: "attention dQ", kept: QUERY_UNITS.kept, products: 3, own: 2, sums: 1 },
  { name: "attention dK, dV", kept: KEY_VALUE_UNITS.kept, products: 4, own: 2, sums: 2 },
];

function attention(
  { name, kept, products, own, sums }: Pass,
  { heads, sequence }: ModelShape,
  { name: variant, size }: Sized<AttentionSize>,
): Load[] {
  const { subgroups, rows, step } = size;
  const tile = attentionTile(card, size, HEAD, kept);
  if (tile === undefined) return [];
  const groups = heads * Math.ceil(sequence / rows);
  const steps = Math.ceil(sequence / step);
  const threads = 32 * subgroups;
  const { scores, weights } = kept;
  const staged = 2 * step * HEAD * 2;
  // Every subgroup loads the staged rows once per product, and its rows of the weights once per sum.
  const matrices = 2 * (products * subgroups * step * HEAD + weights * rows * step);
  const flops = 2 * products * heads * sequence * sequence * HEAD;
  return [{
    problem: `${name} ${heads} x ${sequence}`,
    variant,
    flops,
    device: BYTES * heads * sequence * HEAD * (own + 2 + sums),
    l2: groups * BYTES * HEAD * (steps * 2 * step + (own + sums) * rows),
    workgroup: groups * steps * (staged + matrices + 8 * scores * rows * step + 2 * weights * rows * step),
    registers: (sums * rows * HEAD + scores * rows * step) / threads + own * rows * HEAD / 2 / threads +
      2 * step * HEAD * BYTES / 4 / threads,
    threads,
    memory: attentionBytes(tile, kept),
    arithmetic: onUnits(flops),
  }];
}

/** The passes of attention in every size, in bf16. */
export function unitAttention(shape: ModelShape): Load[] {
  return PASSES.flatMap((pass) => ATTENTION_SIZES.flatMap((size) => attention(pass, shape, size)));
}
