/**
 * How the vectors of flat buffers are spread over threads, where each is computed by itself: all ways give the same
 * bits. Few vectors per thread make more threads to hide the latency of memory, many leave fewer to start.
 */
import { foldGrid, type Launch, THREADS } from "./kernel.ts";
import { unroll } from "./wgsl.ts";

/** Threads of a workgroup, and vectors of four elements that each has, a workgroup's width apart. */
export interface Spread {
  /** Stable, as tables of choices hold it. */
  readonly name: string;
  readonly threads: number;
  readonly vectors: number;
}

/** The first is what runs unmeasured. Rates on GPUs: not yet measured. */
export const SPREADS: readonly Spread[] = [
  { name: "64 threads x 4", threads: THREADS, vectors: 4 },
  { name: "256 threads x 1", threads: 256, vectors: 1 },
  { name: "256 threads x 4", threads: 256, vectors: 4 },
];

/** Runs `perVector` for the vectors of a thread, at index `at` below `params.count4`. */
export function spreadText({ threads, vectors }: Spread, perVector: string): string {
  return unroll(vectors, (i) =>
    `  {
    let at = wg * ${threads * vectors}u + ${i * threads}u + li;
    if (at < params.count4) { ${perVector} }
  }`);
}

/** Workgroups for `count` vectors. */
export function spreadGrid({ threads, vectors }: Spread, count: number): Launch["grid"] {
  return foldGrid(Math.ceil(count / (threads * vectors)));
}

/** Elements of a probe: full workgroups of some spreads and an edge in all. */
export const SPREAD_PROBE = 1300;
