/** The problems of a run that can be solved in several ways. */
import { bytesOf, type Problem } from "../../kernels/core/kernel.ts";
import type { Recording } from "../plan/recording.ts";

/**
 * Problems worth a measurement have at least this share of the work: a variant that does not suit a card may take ten
 * times as long as one that does, which for less is no half percent of a step.
 */
const LEAST_SHARE = 5e-4;

/**
 * Operations that cards do in the time in which they move a byte: an H100 67 TFLOP/s in f32 and 3.35 TB/s, five times
 * as many on matrix units (makers' figures). Row operations do a few, so it is their bytes that take time.
 */
const OPERATIONS_PER_BYTE = { exact: 20, mixed: 100 } as const;

/** Problems with more than one variant, each once, those with the most work first. */
export function problemsOf(recordings: readonly Recording[]): Problem[] {
  const found = new Map<string, { readonly problem: Problem; work: number }>();
  let total = 0;
  const steps = recordings.flatMap(({ steps }) => steps);
  const isMixed = steps.some((step) => step.kind !== "transfer" && step.launch.problem?.mixed);
  const perByte = OPERATIONS_PER_BYTE[isMixed ? "mixed" : "exact"];
  for (const step of steps) {
    if (step.kind === "transfer") continue;
    const { problem, flops } = step.launch;
    const work = Math.max(flops, perByte * step.tensors.reduce((sum, { bytes }) => sum + bytes, 0));
    total += work;
    if (problem !== undefined) {
      const known = found.get(problem.key);
      if (known === undefined) found.set(problem.key, { problem, work });
      else known.work += work;
    }
  }
  return [...found.values()]
    .filter(({ problem, work }) => work >= LEAST_SHARE * total && problem.candidates().length > 1)
    .sort((a, b) => b.work - a.work)
    .map(({ problem }) => problem);
}

/** Bytes of a problem's operands, each once: a lower bound of what solving it reads and writes. */
export function bytesOfProblem(problem: Problem): number {
  const buffers = problem.work(problem.twin).launches.flatMap(({ launch }) => launch.kernel.buffers);
  return Object.entries(problem.operands()).reduce((sum, [name, elements]) => {
    return sum + elements * bytesOf(buffers.find((buffer) => buffer.name === name)!.dtype);
  }, 0);
}
