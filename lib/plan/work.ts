/** Records the launches of a kernel family, whose operands are found by name. */
import type { Work } from "../../kernels/core/kernel.ts";
import type { Plan } from "./plan.ts";
import type { Tensor } from "./tensor.ts";

/** Records the launches in order on the given operands; what they hand on among themselves is made here. */
export function recordWork(
  plan: Plan,
  { launches, scratch = {} }: Work,
  operands: Readonly<Record<string, Tensor>>,
): void {
  const tensors = new Map(Object.entries(operands));
  for (const { launch, writes } of launches) {
    const named = (names: readonly string[]) => names.map((name) => tensors.get(name)!);
    for (const { name, dtype } of launch.kernel.buffers) {
      if (!tensors.has(name)) tensors.set(name, plan.transient(name, [scratch[name]!], dtype));
    }
    plan.launch(launch, named(launch.kernel.buffers.map(({ name }) => name)), named(writes));
  }
}
