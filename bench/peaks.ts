/** What the device can do at best: multiply-adds in registers, and copying memory. Measured beside the kernels, not assumed. */
import { copy, multiplyAdds, peakSizes } from "../kernels/peaks/multiply_adds.ts";
import { type Bench, type Job, median, randomBytes } from "./harness.ts";

/** Ceilings of the device, per core-second of process CPU time and by the GPU's clock. */
export interface Peaks {
  /** Billions of floating-point operations; a multiply-add is two. */
  readonly flops: { readonly cpu: number; readonly wall: number };
  /** Billions of bytes read and written. */
  readonly bytes: { readonly cpu: number; readonly wall: number };
}

/** A job that does nothing but multiply-adds, to be run beside each sample of a kernel: the clock of a shared machine drifts. */
export function arithmeticPeak(bench: Bench): Job {
  const { workgroups } = peakSizes(bench.device.adapter.software);
  const { launch, results } = multiplyAdds("f32", workgroups);
  return bench.prepare(launch, [results]);
}

/** A job that does nothing but copy, for kernels that wait for memory, and the bytes it reads and writes. */
export function memoryPeak(bench: Bench): { readonly job: Job; readonly bytes: number } {
  const { elements } = peakSizes(bench.device.adapter.software);
  return { job: bench.prepare(copy(elements), [randomBytes(elements, "f32"), elements]), bytes: 8 * elements };
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
