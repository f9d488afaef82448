/** Which transients a plan holds when it holds the most. */
import { type Lifetime, lifetimes } from "./memory.ts";
import type { Step } from "./plan.ts";
import type { Tensor } from "./tensor.ts";

/** The step of a plan with the most bytes alive. */
export interface LivePeak {
  readonly step: number;
  /** Where in the model it was recorded. */
  readonly scope: string;
  readonly bytes: number;
  /** What is alive then, the largest first. */
  readonly tensors: readonly { readonly tensor: Tensor; readonly bytes: number }[];
}

/** Finds the peak; its bytes are a lower bound of the arena, which is larger by what placement can't use. */
export function livePeak(steps: readonly Step[], outputs: ReadonlySet<Tensor> = new Set()): LivePeak {
  const spans = lifetimes(steps, outputs);
  const change = new Float64Array(steps.length + 2);
  for (const { first, last, bytes } of spans) {
    change[first]! += bytes;
    change[last + 1]! -= bytes;
  }
  let [peak, step, alive] = [0, 0, 0];
  for (let i = 0; i < steps.length; i++) {
    alive += change[i]!;
    if (alive > peak) [peak, step] = [alive, i];
  }
  const tensors = spans.filter(({ first, last }: Lifetime) => first <= step && step <= last)
    .map(({ tensor, bytes }) => ({ tensor, bytes }))
    .sort((a, b) => b.bytes - a.bytes);
  return { step, scope: steps[step]?.scope ?? "", bytes: peak, tensors };
}
