/** What a LoRA does to a model: which of its layers apply, and by how much each weight changes. */
import { decodeF32, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { fitLora, type LoraFit } from "./fit.ts";
import { updateNorm } from "./module.ts";
import type { LoraFile } from "./read.ts";
import type { OpenTransformer } from "../transformer/file.ts";

/** Bytes of a weight read at a time. */
const BLOCK_BYTES = 16 * 2 ** 20;

/** The change of one layer. */
export interface LayerChange {
  readonly layer: string;
  readonly rank: number;
  readonly alpha: number;
  /** |alpha / rank * B A| / |W| (Frobenius). */
  readonly change: number;
}

/** Result of {@linkcode verifyLora}. */
export interface LoraEffect {
  readonly fit: LoraFit;
  readonly changes: readonly LayerChange[];
  /** Whether any weight changes at all. */
  readonly applies: boolean;
}

/**
 * Measures a LoRA against the model it is meant for. Products B A are never formed.
 *
 * @throws {UserError} when it was made for another model, naming both.
 */
export function verifyLora(lora: LoraFile, model: OpenTransformer): LoraEffect {
  const fit = fitLora(lora, model.config, model.folder);
  const changes = fit.matched.map((layer): LayerChange => {
    const module = lora.modules.get(layer)!;
    const norm = updateNorm(module);
    const change = norm === 0 ? 0 : norm / weightNorm(model.source, `${layer}.weight`);
    return { layer, rank: module.rank, alpha: module.alpha, change };
  });
  return { fit, changes, applies: changes.some(({ change }) => change > 0) };
}

function weightNorm(source: TensorSource, name: string): number {
  const { byteLength, dtype } = source.tensors.get(name)!;
  let square = 0;
  for (let at = 0; at < byteLength; at += BLOCK_BYTES) {
    const bytes = source.readBytes(name, at, Math.min(at + BLOCK_BYTES, byteLength));
    for (const value of decodeF32(bytes, dtype.toLowerCase() as StorageType)) square += value * value;
  }
  return Math.sqrt(square);
}
