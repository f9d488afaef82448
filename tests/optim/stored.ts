/** The optimizer runs of the reference set: gradients in, parameters after every step out. */
import type { SafetensorsFile } from "../../lib/io/safetensors/safetensors.ts";
import type { OptimizerConfig } from "../../lib/optim/update.ts";
import { caseName, casesOf, type ReferenceCase } from "../reference.ts";

/** How a stored run was made. CAME's betas are three; its eps are constants of its kernels. */
export interface StoredOptimizer {
  readonly betas: readonly [number, number, ...number[]];
  readonly eps: number | readonly number[];
  readonly beta3: number;
  readonly weight_decay: number;
  readonly steps: number;
  /** Prodigy's. */
  readonly decouple?: boolean;
  readonly use_bias_correction?: boolean;
  readonly safeguard_warmup?: boolean;
}

/** Settings of a stored run. */
export function settingsOf({ config }: ReferenceCase): StoredOptimizer {
  return config as unknown as StoredOptimizer;
}

/** Stored runs of an optimizer; with a part behind its name (`adamw-wd`) its settings are others. */
export function optimizerRuns(optimizer: string): ReferenceCase[] {
  return casesOf("optim", "param0.matrix").filter((stored) => caseName(stored).split("-")[0] === optimizer);
}

/** The stored runs whose settings a config can have: Prodigy with weight decay in the gradient and without corrections. */
export function configurableRuns(): ReferenceCase[] {
  return ["adamw", "adam", "prodigy", "came"].flatMap(optimizerRuns).filter((stored) =>
    settingsOf(stored).decouple !== true
  );
}

/** What a config says of a stored run. */
export function optimizerOf(stored: ReferenceCase): Partial<OptimizerConfig> {
  const { betas: [beta1, beta2], beta3, eps, weight_decay } = settingsOf(stored);
  const optimizer = caseName(stored).split("-")[0] as OptimizerConfig["optimizer"];
  return { optimizer, beta1, beta2, beta3, weight_decay, ...(typeof eps === "number" ? { epsilon: eps } : {}) };
}

/** Values of a tensor at a step: its gradient (`grads.NAME`) or what it was after the step (`params.NAME`). */
export function valuesAt(file: SafetensorsFile, name: string, step: number): Float32Array<ArrayBuffer> {
  const all = file.readF32(name);
  const size = all.length / file.tensors.get("lr")!.shape[0]!;
  return all.slice(step * size, (step + 1) * size);
}
