/**
 * Launches that do nothing but what a device is best at: the ceilings that others are held against. What they leave in
 * their buffer is known from arithmetic, so a driver that leaves out work, or does it wrong, sets no ceiling.
 */
import { foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** A launch whose arithmetic sets a ceiling. Buffers: c, f32 [results]. */
export interface Ceiling {
  readonly launch: Launch;
  readonly results: number;
  /** What `c` holds at `at` afterwards, exactly. */
  expected(at: number): number;
}

const CHAINS = 16;
const STEPS = 1024;

/** Half of a number and this, over and over, ends at twice this in every rounding, when begun above it. */
const ADDED = 0.5;

/**
 * Sixteen independent chains of multiply-adds of four numbers per thread: enough to hide the latency of one. Spelt as
 * the products without matrix units spell theirs.
 */
export function multiplyAdds(type: "f32" | "f16", workgroups: number): Ceiling {
  const [vector, step] = type === "f32"
    ? ["vec4f", (i: number) => `x${i} = x${i} * factor + added;`]
    : ["vec4<f16>", (i: number) => `x${i} = fma(x${i}, factor, added);`];
  const kernel = buildKernel({
    name: "peak_multiply_adds",
    spec: { chains: CHAINS, type },
    params: ["steps", "factor:f32", "added:f32"],
    buffers: [{ name: "c", dtype: "f32" }],
    workgroupSize: THREADS,
    body: `let factor = ${vector}(vec4f(params.factor));
let added = ${vector}(vec4f(params.added));
${unroll(CHAINS, (i) => `var x${i} = ${vector}(vec4f(f32(li) + ${i + 2}.0));`)}
for (var step = 0u; step < params.steps; step++) {
${unroll(8, () => unroll(CHAINS, step))}
}
store_c(gid, ${unroll(CHAINS, (i) => `vec4f(x${i})`, " + ")});`,
  });
  const flops = 2 * 4 * 8 * CHAINS * STEPS * THREADS * workgroups;
  return {
    launch: { kernel, params: [STEPS, 0.5, ADDED], grid: foldGrid(workgroups), flops },
    results: 4 * THREADS * workgroups,
    expected: () => CHAINS * 2 * ADDED,
  };
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

/** Workgroups of arithmetic and elements of {@linkcode copy} that fill a GPU, or a software driver. */
export function peakSizes(software: boolean): { readonly workgroups: number; readonly elements: number } {
  return software ? { workgroups: 4, elements: 2 ** 22 } : { workgroups: 8192, elements: 2 ** 25 };
}
