/** Launches that do nothing but what a device is best at: the ceilings that others are held against. */
import { foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

const CHAINS = 16;
const STEPS = 1024;

/** Sixteen independent chains of vec4 multiply-adds per thread: enough to hide the latency of one. Buffers: c. */
export function multiplyAdds(workgroups: number): Launch {
  const kernel = buildKernel({
    name: "peak_multiply_adds",
    spec: { chains: CHAINS },
    params: ["steps", "factor:f32"],
    buffers: [{ name: "c", dtype: "f32" }],
    workgroupSize: THREADS,
    body: `${unroll(CHAINS, (i) => `var x${i} = vec4f(f32(gid) + ${i}.0);`)}
for (var step = 0u; step < params.steps; step++) {
${unroll(8, () => unroll(CHAINS, (i) => `x${i} = x${i} * params.factor + vec4f(0.5);`))}
}
store_c(gid, ${unroll(CHAINS, (i) => `x${i}`, " + ")});`,
  });
  const flops = 2 * 4 * 8 * CHAINS * STEPS * THREADS * workgroups;
  return { kernel, params: [STEPS, 0.999], grid: foldGrid(workgroups), flops };
}

/** Copies `elements` f32, four to a thread. Buffers: a, c. */
export function copy(elements: number): Launch {
  const count = elements / 4;
  const kernel = buildKernel({
    name: "peak_copy",
    spec: {},
    params: ["count"],
    buffers: [{ name: "a", dtype: "f32" }, { name: "c", dtype: "f32" }],
    workgroupSize: THREADS,
    body: `if (gid < params.count) { store_c(gid, load_a(gid)); }`,
  });
  return { kernel, params: [count], grid: foldGrid(Math.ceil(count / THREADS)), flops: 0 };
}

/** Workgroups of {@linkcode multiplyAdds} and elements of {@linkcode copy} that fill a GPU, or a software driver. */
export function peakSizes(software: boolean): { readonly workgroups: number; readonly elements: number } {
  return software ? { workgroups: 4, elements: 2 ** 22 } : { workgroups: 8192, elements: 2 ** 25 };
}

/** Elements of the buffer that {@linkcode multiplyAdds} writes. */
export function peakResults(workgroups: number): number {
  return 4 * THREADS * workgroups;
}
