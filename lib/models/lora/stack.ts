/** Several LoRAs as one low-rank adapter per layer, exact and without touching the base weights. */
import type { ScaledLora } from "./merge_into_weights.ts";

/** A LoRA file and the factor on its update. */
export interface LoraChoice {
  /** The file, or the folder it is in. */
  readonly path: string;
  /** Multiplies the trained strength alpha / rank; 1 is as trained. */
  readonly strength: number;
}

/** An adapter of one layer; alpha, rank and strength are folded into `up`. */
export interface MergedLayer {
  /** [rank, in], rank padded to a multiple of four with zeros. */
  readonly down: Float32Array<ArrayBuffer>;
  /** [out, rank]. */
  readonly up: Float32Array<ArrayBuffer>;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/** The sum of s_i B_i A_i is [s_1 B_1, s_2 B_2, ...] [A_1; A_2; ...]: stacked along the rank. */
export function mergeLoras(loras: readonly ScaledLora[]): Map<string, MergedLayer> {
  const merged = new Map<string, MergedLayer>();
  for (const name of new Set(loras.flatMap(({ modules }) => [...modules.keys()]))) {
    const parts = loras.flatMap(({ modules, strength }) => {
      const module = modules.get(name);
      return module === undefined ? [] : [{ ...module, factor: strength * module.alpha / module.rank }];
    });
    const { inFeatures, outFeatures } = parts[0]!;
    const rank = Math.ceil(parts.reduce((sum, part) => sum + part.rank, 0) / 4) * 4;
    const down = new Float32Array(rank * inFeatures);
    const up = new Float32Array(outFeatures * rank);
    let from = 0;
    for (const part of parts) {
      down.set(part.down, from * inFeatures);
      for (let o = 0; o < outFeatures; o++) {
        for (let r = 0; r < part.rank; r++) up[o * rank + from + r] = part.factor * part.up[o * part.rank + r]!;
      }
      from += part.rank;
    }
    merged.set(name, { down, up, rank, inFeatures, outFeatures });
  }
  return merged;
}
