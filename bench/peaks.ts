/** What the device can do at best: multiply-adds in registers, and copying memory. Measured beside the kernels, not assumed. */
import { foldGrid, type Launch } from "../kernels/core/kernel.ts";
import { buildKernel, unroll } from "../kernels/core/wgsl.ts";
import { type Bench, type Job, median, randomBytes } from "./harness.ts";

/** Ceilings of the device, per core-second of process CPU time and by the GPU's clock. */
export interface Peaks {
  /** Billions of floating-point operations; a multiply-add is two. */
  readonly flops: { readonly cpu: number; readonly wall: number };
  /** Billions of bytes read and written. */
  readonly bytes: { readonly cpu: number; readonly wall: number };
}

const THREADS = 64;
const CHAINS = 16;
const STEPS = 1024;

/** Sixteen independent chains of vec4 multiply-adds per thread: enough to hide the latency of one. */
function multiplyAdds(workgroups: number): Launch {
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

/** Copies `count` groups of four f32. */
function copy(count: number): Launch {
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

/** A job that does nothing but multiply-adds, to be run beside each sample of a kernel: the clock of a shared machine drifts. */
export function arithmeticPeak(bench: Bench): Job {
  const workgroups = bench.device.adapter.software ? 4 : 8192;
  return bench.prepare(multiplyAdds(workgroups), [4 * THREADS * workgroups]);
}

/** A job that does nothing but copy, for kernels that wait for memory, and the bytes it reads and writes. */
export function memoryPeak(bench: Bench): { readonly job: Job; readonly bytes: number } {
  const elements = bench.device.adapter.software ? 2 ** 22 : 2 ** 25;
  return { job: bench.prepare(copy(elements / 4), [randomBytes(elements, "f32"), elements]), bytes: 8 * elements };
}

/** Measures both ceilings in the process that measures the kernels. */
export async function measurePeaks(bench: Bench, rounds = 7): Promise<Peaks> {
  const arithmetic = arithmeticPeak(bench);
  const { job: memory, bytes: copied } = memoryPeak(bench);
  const samples = { flops: { cpu: [0], wall: [0] }, bytes: { cpu: [0], wall: [0] } };
  for (let round = -1; round < rounds; round++) {
    const [a, m] = [await bench.sample(arithmetic), await bench.sample(memory)];
    if (round < 0) continue;
    for (const clock of ["cpu", "wall"] as const) {
      samples.flops[clock][round] = arithmetic.flops / 1e6 / a[clock];
      samples.bytes[clock][round] = copied / 1e6 / m[clock];
    }
  }
  bench.free(arithmetic);
  bench.free(memory);
  const { flops, bytes } = samples;
  return {
    flops: { cpu: median(flops.cpu), wall: median(flops.wall) },
    bytes: { cpu: median(bytes.cpu), wall: median(bytes.wall) },
  };
}
