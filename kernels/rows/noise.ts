/** Numbers that look random: what kernels are timed and compared on. */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel } from "../core/wgsl.ts";

/**
 * y = numbers in [-0.5, 0.5), the same for the same seed, a hash of their place (PCG, jcgt.org/published/0009/03/02).
 * Buffers: y.
 */
export function noise(
  spec: { readonly y: Exclude<DType, "u32"> },
  { elements, seed }: { readonly elements: number; readonly seed: number },
): Launch {
  const count = fours("numbers", elements);
  return {
    kernel: buildKernel({
      name: "noise",
      spec,
      params: ["count4", "seed"],
      buffers: [{ name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      declarations: `fn hash(value: u32) -> u32 {
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}`,
      body: `if (gid >= params.count4) { return; }
let first = 4u * gid + params.seed * 2654435769u;
let bits = vec4u(hash(first), hash(first + 1u), hash(first + 2u), hash(first + 3u));
store_y(gid, vec4f(bits >> vec4u(8u)) * ${2 ** -24} - 0.5);`,
    }),
    params: [count, seed],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}
