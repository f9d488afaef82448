/** Numbers that look random: what kernels are timed and compared on, and what random weights are. */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel } from "../core/wgsl.ts";

/** Which numbers, how many, and what they are multiplied by. */
export interface NoiseShape {
  readonly elements: number;
  readonly seed: number;
  /** Default 1. */
  readonly scale?: number;
}

/**
 * y = scale * numbers in [-0.5, 0.5), the same for the same seed: a hash of their place, mixed with the seed and hashed
 * again (PCG, jcgt.org/published/0009/03/02). Buffers: y.
 */
export function noise(spec: { readonly y: Exclude<DType, "u32"> }, { elements, seed, scale = 1 }: NoiseShape): Launch {
  const count = fours("numbers", elements);
  return {
    kernel: buildKernel({
      name: "noise",
      spec,
      params: ["count4", "seed", "scale:f32"],
      buffers: [{ name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      declarations: `fn hash(value: u32) -> u32 {
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}
fn draw(place: u32) -> u32 { return hash(hash(place) + params.seed) >> 8u; }`,
      body: `if (gid >= params.count4) { return; }
let first = 4u * gid;
let bits = vec4u(draw(first), draw(first + 1u), draw(first + 2u), draw(first + 3u));
store_y(gid, (vec4f(bits) * ${2 ** -24} - 0.5) * params.scale);`,
    }),
    params: [count, seed, scale],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}

/** y = four numbers, over and over. Buffers: y. */
export function repeated(
  spec: { readonly y: Exclude<DType, "u32"> },
  { elements, values }: { readonly elements: number; readonly values: readonly [number, number, number, number] },
): Launch {
  const count = fours("numbers", elements);
  return {
    kernel: buildKernel({
      name: "repeated",
      spec,
      params: ["count4", "a:f32", "b:f32", "c:f32", "d:f32"],
      buffers: [{ name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      body: `if (gid < params.count4) { store_y(gid, vec4f(params.a, params.b, params.c, params.d)); }`,
    }),
    params: [count, ...values],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}

/** The same numbers on the host, from element `first` on, for tensors that live there. */
export function noiseOnHost({ elements, seed, scale = 1 }: NoiseShape, first = 0): Float32Array<ArrayBuffer> {
  const factor = Math.fround(scale);
  const values = new Float32Array(elements);
  for (let i = 0; i < elements; i++) {
    values[i] = ((hash(hash(first + i) + seed) >>> 8) * 2 ** -24 - 0.5) * factor;
  }
  return values;
}

function hash(value: number): number {
  const state = Math.imul(value, 747796405) + 2891336453 | 0;
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277803737);
  return ((word >>> 22) ^ word) >>> 0;
}
