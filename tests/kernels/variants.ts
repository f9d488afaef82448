/** Runs a family in every way it has. */
import type { Target } from "../../kernels/core/kernel.ts";
import type { Family, Variant } from "../../kernels/core/variants.ts";
import { type Operands, runWork, testDevice } from "./run.ts";

/** What a variant leaves in the operands. */
export interface VariantRun {
  readonly name: string;
  readonly results: Record<string, Float32Array<ArrayBuffer>>;
}

/** What every variant that applies leaves in the operands, the twin first; by default for the device's own target. */
export async function everyVariant<Spec, Shape>(
  family: Family<Spec, Shape>,
  spec: Spec,
  shape: Shape,
  operands: Operands,
  target?: Target,
): Promise<[VariantRun, ...VariantRun[]]> {
  const own = target ?? (await testDevice()).device.target;
  const run = async ({ name, work }: Variant<Spec, Shape>): Promise<VariantRun> => {
    const results = await runWork(work(own, spec, shape), operands);
    return { name, results: results as VariantRun["results"] };
  };
  const twin = family.variants.find(({ name }) => name === family.twin)!;
  const found: [VariantRun, ...VariantRun[]] = [await run(twin)];
  for (const variant of family.variants) {
    if (variant !== twin && variant.applies(own, spec, shape)) found.push(await run(variant));
  }
  return found;
}
