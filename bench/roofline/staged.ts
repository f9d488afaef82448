/**
 * Loads of the kernels through workgroup memory on shader units: f32 and packed f16 products, and attention. A load of 32 threads
 * from workgroup memory is charged its distinct bytes, at least the 128 that all banks give at once.
 */
import { STAGED_SIZES, stagedBytes as attentionBytes, type StagedRows, STEP } from "../../kernels/attention/staged.ts";
import { STAGED_FORWARD, STAGED_KEY_VALUE, STAGED_QUERY } from "../../kernels/attention/staged_passes.ts";
import { CHAIN, STAGED_TILES, stagedBytes, stagedThreads, type StagedTile } from "../../kernels/matrix/gemm_staged.ts";
import { BYTES, deviceBytes, HEAD, type Load, type ModelShape, type Product, type Sized } from "./load.ts";

const LANES = 32;

/** Bytes charged for a load of `distinct` groups of four, `bytes` each. */
function loadBytes(distinct: number, bytes: number): number {
  return Math.max(128, distinct * bytes);
}

function onShaders(flops: number, packed: boolean): Load["arithmetic"] {
  // A flush of a chain widens, scales and adds: three operations where a depth has one, which counts as two.
  return packed
    ? {
      name: "arithmetic",
      time: ({ packedTflops, exactTflops }) => flops / packedTflops + 3 * flops / CHAIN / exactTflops,
    }
    : { name: "arithmetic", time: ({ exactTflops }) => flops / exactTflops };
}

function product(shape: Product, { name, size: tile }: Sized<StagedTile>): Load {
  const { problem, m, n, k } = shape;
  const { rows, columns, depth, rowGroups, columnGroups, packed } = tile;
  const threads = stagedThreads(tile);
  const tiles = Math.ceil(m / rows) * Math.ceil(n / columns);
  const depths = Math.ceil(k / depth) * depth;
  const four = packed ? 8 : 16;
  const across = Math.min(LANES, columns / (4 * columnGroups));
  const read = threads / LANES *
    (rowGroups * loadBytes(LANES / across, four) + columnGroups * loadBytes(across, four));
  const sums = 16 * rowGroups * columnGroups;
  const flops = 2 * m * n * k;
  return {
    problem,
    variant: name,
    flops,
    device: deviceBytes(shape),
    l2: tiles * BYTES * (depths * (rows + columns) + rows * columns),
    workgroup: tiles * depths * (read + (rows + columns) * four / 4),
    // Packed sums of a chain lie two to a register; what is fetched waits as f32.
    registers: (packed ? 1.5 : 1) * sums + 4 * (rowGroups + columnGroups) * four / 16 +
      (rows + columns) * depth / threads,
    threads,
    memory: stagedBytes(tile),
    arithmetic: onShaders(flops, packed),
  };
}

/** A product in every tile. */
export function stagedProducts(shape: Product): Load[] {
  return STAGED_TILES.map(({ name, tile }) => product(shape, { name, size: tile }));
}

const PASSES = [
  { name: "attention forward", staged: STAGED_FORWARD, scores: 1, sums: 1 },
  { name: "attention dQ", staged: STAGED_QUERY, scores: 2, sums: 1 },
  { name: "attention dK, dV", staged: STAGED_KEY_VALUE, scores: 2, sums: 2 },
] as const;

function attention(
  { name, staged, scores, sums }: typeof PASSES[number],
  { heads, sequence }: ModelShape,
  { name: variant, size }: Sized<Omit<StagedRows, "headDim">>,
): Load {
  const { rows, rowGroups } = size;
  const threads = rows / (4 * rowGroups) * (STEP / 4);
  const groups = heads * Math.ceil(sequence / rows);
  const steps = Math.ceil(sequence / STEP);
  const own = staged.own.length;
  // Eight threads share rows, so 32 of them hold four sets.
  const score = HEAD * (rowGroups * loadBytes(4, 16) + loadBytes(8, 16));
  const sum = STEP * (rowGroups * loadBytes(4, 16) + HEAD / 32 * loadBytes(8, 16));
  const written = 4 * (scores + sums) * STEP * HEAD + 4 * sums * STEP * rows;
  const flops = 2 * (scores + sums) * heads * sequence * sequence * HEAD;
  return {
    problem: `${name} ${heads} x ${sequence}`,
    variant,
    flops,
    device: BYTES * heads * sequence * HEAD * (own + 2 + sums),
    l2: groups * BYTES * HEAD * (steps * (scores + sums) * STEP + (own + sums) * rows),
    workgroup: groups * steps * (threads / LANES * (scores * score + sums * sum) + written),
    registers: 4 * rowGroups * (sums * HEAD / 8 + scores * 4 + 2) + 4 * (rowGroups + 2),
    threads,
    memory: attentionBytes({ headDim: HEAD, ...size }, staged),
    arithmetic: onShaders(flops, false),
  };
}

/** The passes of attention in every size, in bf16. */
export function stagedAttention(shape: ModelShape): Load[] {
  return PASSES.flatMap((pass) => STAGED_SIZES.map(({ name, tile }) => attention(pass, shape, { name, size: tile })));
}
