/** Repeats stored LoRA runs with narrow activations and products on matrix units, beside what PyTorch's bf16 autocast made of them. */
import { readFileSync } from "node:fs";
import { attentionFamilies } from "../../kernels/attention/attention.ts";
import { launchUnits } from "../../kernels/attention/unit_tile.ts";
import type { Target } from "../../kernels/core/kernel.ts";
import type { Family, Variant } from "../../kernels/core/variants.ts";
import { gemmFamily } from "../../kernels/matrix/gemm.ts";
import { gemmWork } from "../../kernels/matrix/gemm_launch.ts";
import { unitsText } from "../../kernels/matrix/gemm_units.ts";
import { testDevice } from "../kernels/run.ts";
import { attentionPasses, smallAttention, smallTile } from "../kernels/small_units.ts";
import { type ReferenceCase, referencePath } from "../reference.ts";
import { repeatTraining, trainingCases, type TrainingDistances } from "./training_case.ts";

const SMALL = "units of tests";

/** Chooses the small tiles for every product of more rows than modulation vectors have, which stay where they are preferred. */
class SmallTiles extends Map<string, string> {
  override get(key: string): string | undefined {
    return key.startsWith("attention") || Number(/^gemm.*,m=(\d+)/.exec(key)?.[1]) > 8 ? SMALL : undefined;
  }
}

const { device } = await testDevice();
// Software drivers are kept off their matrix units unless asked like this.
const target: Target = { ...device.target, mixed: true, choices: new SmallTiles() };

/** True where the device has matrix units. */
export const hasUnits: boolean = target.matrix.length > 0;

function offer<Spec, Shape>({ variants }: Family<Spec, Shape>, work: Variant<Spec, Shape>["work"]): void {
  (variants as Variant<Spec, Shape>[]).push({ name: SMALL, applies: () => true, work });
}

offer(gemmFamily, (target, spec, shape) => gemmWork(spec, shape, 1, unitsText(spec, smallTile(target))));
Object.values(attentionFamilies).forEach((family, i) => {
  const { pass, text } = attentionPasses[i]!;
  offer(family, (target, spec, shape) => {
    const launch = launchUnits(pass, text, smallAttention(target, spec.headDim), spec, shape);
    return { launches: [{ launch, writes: pass.writes }] };
  });
});

/** A stored run, and in what it is repeated. */
export interface MixedCase {
  readonly stored: ReferenceCase;
  readonly activation: "bf16" | "f16";
}

/** The stored runs that train adapters, in bf16; those of 2b, which was released for it, in fp16 too. */
export function mixedCases(): MixedCase[] {
  return trainingCases().filter(({ config }) => config.rank !== undefined).flatMap((stored): MixedCase[] => [
    { stored, activation: "bf16" },
    ...(/\b2b$/.test(`${stored.config.pipeline}`) ? [{ stored, activation: "f16" } as const] : []),
  ]);
}

/** Repeats a run. */
export function repeatMixed({ stored, activation }: MixedCase): Promise<TrainingDistances> {
  return repeatTraining(stored, { target, activation });
}

/** Distances of PyTorch's bf16 autocast on a run. */
export function autocast({ file }: ReferenceCase): { loss: number; grad_norm: number; final: number } {
  return JSON.parse(readFileSync(referencePath("autocast.json"), "utf8")).runs[file];
}
