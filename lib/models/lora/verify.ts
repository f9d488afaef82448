/** What a LoRA does to a model: which of its layers apply, and by how much each weight changes. */
import { decodeF32, floatBytes, floatType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { mergedSource } from "./merge_into_weights.ts";
import { fitLora, type LoraFit } from "./fit.ts";
import { updateNorm } from "./module.ts";
import type { LoraFile } from "./read.ts";
import type { OpenTransformer } from "../transformer/file.ts";

/** Elements of a weight read at a time. */
const PART_ELEMENTS = 4 * 2 ** 20;

/** The change of one layer. */
export interface LayerChange {
  readonly layer: string;
  readonly rank: number;
  readonly alpha: number;
  /** |W' - W| / |W| (Frobenius), for a plain LoRA |alpha / rank * B A| / |W|. */
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
 * Measures a LoRA against the model it is meant for. Products B A are formed for a DoRA alone, by pieces.
 *
 * @throws {UserError} when it was made for another model, naming both.
 */
export function verifyLora(lora: LoraFile, model: OpenTransformer): LoraEffect {
  const fit = fitLora(lora, model.config, model.folder);
  const changes = fit.matched.map((layer): LayerChange => {
    const module = lora.modules.get(layer)!;
    const name = `${layer}.weight`;
    const norm = module.magnitude === undefined
      ? updateNorm(module)
      : differenceNorm(model.source, mergedSource(model.source, [{ modules: lora.modules, strength: 1 }]), name);
    const change = norm === 0 ? 0 : norm / weightNorm(model.source, name);
    return { layer, rank: module.rank, alpha: module.alpha, change };
  });
  return { fit, changes, applies: changes.some(({ change }) => change > 0) };
}

/** Parts of a tensor as f32. */
function* parts(source: TensorSource, name: string): Generator<Float32Array> {
  const { byteLength, dtype } = source.tensors.get(name)!;
  const type = floatType(dtype)!;
  const step = PART_ELEMENTS * floatBytes(type);
  for (let at = 0; at < byteLength; at += step) {
    yield decodeF32(source.readBytes(name, at, Math.min(at + step, byteLength)), type);
  }
}

function weightNorm(source: TensorSource, name: string): number {
  let square = 0;
  for (const part of parts(source, name)) for (const value of part) square += value * value;
  return Math.sqrt(square);
}

function differenceNorm(before: TensorSource, after: TensorSource, name: string): number {
  let square = 0;
  const old = parts(before, name);
  for (const part of parts(after, name)) {
    const values = old.next().value!;
    part.forEach((value, i) => square += (value - values[i]!) ** 2);
  }
  return Math.sqrt(square);
}
