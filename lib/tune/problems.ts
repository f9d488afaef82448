/** The problems of a run that can be solved in several ways. */
import type { Problem } from "../../kernels/core/kernel.ts";
import type { Recording } from "../plan/recording.ts";

/** Problems worth a measurement have at least this share of the arithmetic; what is left takes no time either way. */
const LEAST_SHARE = 1e-3;

/** Problems with more than one variant, each once, those with the most work first. */
export function problemsOf(recordings: readonly Recording[]): Problem[] {
  const found = new Map<string, { readonly problem: Problem; flops: number }>();
  let total = 0;
  for (const step of recordings.flatMap(({ steps }) => steps)) {
    if (step.kind === "transfer") continue;
    const { problem, flops } = step.launch;
    total += flops;
    if (problem === undefined) continue;
    const known = found.get(problem.key);
    if (known === undefined) found.set(problem.key, { problem, flops });
    else known.flops += flops;
  }
  return [...found.values()]
    .filter(({ problem, flops }) => flops >= LEAST_SHARE * total && problem.candidates().length > 1)
    .sort((a, b) => b.flops - a.flops)
    .map(({ problem }) => problem);
}
