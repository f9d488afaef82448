/** LoRA files of diffusers, peft and CogKit, and several of them merged into one adapter per layer. */
import { UserError, UserErrors } from "../errors.ts";
import { decodeF32, type StorageType } from "../io/half.ts";
import { openSafetensors, type SafetensorsFile } from "../io/safetensors.ts";

/** A LoRA file and the factor on its update. */
export interface LoraChoice {
  readonly path: string;
  /** Multiplies the trained strength alpha / rank; 1 is as trained. */
  readonly strength: number;
}

/** The update of one layer: weight + scale B A. */
export interface LoraLayer {
  /** A [rank, in]. */
  readonly down: Float32Array<ArrayBuffer>;
  /** B [out, rank]. */
  readonly up: Float32Array<ArrayBuffer>;
  readonly rank: number;
  /** alpha / rank, or 1 when the file does not store alpha. */
  readonly scale: number;
}

/** What a LoRA file changes, by layer name as the transformer has it. */
export interface LoraFile {
  readonly layers: ReadonlyMap<string, LoraLayer>;
  /** False when alpha is not stored, so that loaders assume it equals the rank. */
  readonly alphaKnown: boolean;
}

const STORED: Readonly<Record<string, StorageType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Prefixes of diffusers (`transformer.`) and of peft (`base_model.model.`). */
const PREFIX = /^(?:base_model\.model\.)?(?:transformer\.)?/;
const DOWN = /^(.+)\.lora(?:_A|_down|\.down)(?:\.default)?\.weight$/;

function upKeyOf(downKey: string): string {
  return downKey.replace("lora_A", "lora_B").replace("lora_down", "lora_up").replace("lora.down", "lora.up");
}

/**
 * Reads a LoRA file.
 *
 * @param layers [out, in] of the linear layers of the model it is for.
 * @throws {UserErrors} listing every pair that fits no layer of the model, and every tensor without a partner.
 */
export function readLora(path: string, layers: ReadonlyMap<string, readonly [number, number]>): LoraFile {
  using file = openSafetensors(path);
  const problems: string[] = [];
  const found = new Map<string, LoraLayer>();
  const alpha = alphaRule(file);
  const partners = new Set<string>();
  for (const [key, info] of file.tensors) {
    const name = DOWN.exec(key)?.[1]?.replace(PREFIX, "");
    if (name === undefined) continue;
    const upKey = upKeyOf(key);
    partners.add(key).add(upKey);
    const upShape = file.tensors.get(upKey)?.shape;
    const expected = layers.get(name);
    const [rank, width] = info.shape;
    if (expected === undefined) problems.push(`"${key}": the model has no linear layer "${name}"`);
    else if (`${[upShape?.[0], width]}` !== `${expected}` || upShape?.[1] !== rank) {
      problems.push(
        `"${name}": A [${info.shape}] and B [${upShape ?? "missing"}] do not fit a layer [${expected}] (out, in)`,
      );
    } else {
      const down = readTensor(file, key);
      const up = readTensor(file, upKey);
      found.set(name, { down, up, rank: rank!, scale: (alpha?.(name) ?? rank!) / rank! });
    }
  }
  for (const key of file.tensors.keys()) {
    if (!partners.has(key)) problems.push(`"${key}" belongs to no pair lora_A, lora_B`);
  }
  if (problems.length > 0 || found.size === 0) {
    const shown = problems.length > 12 ? [...problems.slice(0, 12), `and ${problems.length - 12} more`] : problems;
    throw new UserErrors(
      `Cannot apply the LoRA "${path}"`,
      found.size === 0 && problems.length === 0 ? ["the file holds no tensor"] : shown,
      "a LoRA fits only the model it was trained for; `lora inspect` lists its modules",
    );
  }
  return { layers: found, alphaKnown: alpha !== undefined };
}

function readTensor(file: SafetensorsFile, key: string): Float32Array<ArrayBuffer> {
  const type = STORED[file.tensors.get(key)!.dtype];
  if (type === undefined) {
    throw new UserError(`"${key}" is stored as ${file.tensors.get(key)!.dtype}: expected F32, F16 or BF16`);
  }
  return decodeF32(file.readBytes(key), type);
}

/** Alpha by layer from where diffusers keeps it: JSON in `lora_adapter_metadata`, keys prefixed by the part of the pipeline. */
function alphaRule(file: SafetensorsFile): ((layer: string) => number | undefined) | undefined {
  const text = file.metadata.get("lora_adapter_metadata");
  if (text === undefined) return undefined;
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new UserError(
      `The lora_adapter_metadata of the LoRA is not JSON: ${error instanceof Error ? error.message : error}`,
      "its strength is unknown; save the LoRA again",
    );
  }
  const common = json["transformer.lora_alpha"];
  const patterns = json["transformer.alpha_pattern"];
  const own = Object.entries(typeof patterns === "object" && patterns !== null ? patterns : {});
  if (typeof common !== "number" && own.length === 0) return undefined;
  return (layer) => {
    const alpha: unknown = own.find(([name]) => layer === name || layer.endsWith(`.${name}`))?.[1] ?? common;
    return typeof alpha === "number" ? alpha : undefined;
  };
}

/** An adapter ready for upload; its scale is folded into `up`. */
export interface MergedLayer {
  /** [rank, in], rank padded to a multiple of four with zeros. */
  readonly down: Float32Array<ArrayBuffer>;
  /** [out, rank]. */
  readonly up: Float32Array<ArrayBuffer>;
  readonly rank: number;
}

/**
 * One adapter per layer from several LoRAs: the sum of s_i B_i A_i is [s_1 B_1, s_2 B_2, ...] [A_1; A_2; ...], exact and without
 * touching the base weights.
 */
export function mergeLoras(
  loras: readonly { readonly file: LoraFile; readonly strength: number }[],
): Map<string, MergedLayer> {
  const merged = new Map<string, MergedLayer>();
  const names = new Set(loras.flatMap(({ file }) => [...file.layers.keys()]));
  for (const name of names) {
    const parts = loras.flatMap(({ file, strength }) => {
      const layer = file.layers.get(name);
      return layer === undefined ? [] : [{ ...layer, factor: strength * layer.scale }];
    });
    const width = parts[0]!.down.length / parts[0]!.rank;
    const out = parts[0]!.up.length / parts[0]!.rank;
    const rank = Math.ceil(parts.reduce((sum, part) => sum + part.rank, 0) / 4) * 4;
    const down = new Float32Array(rank * width);
    const up = new Float32Array(out * rank);
    let from = 0;
    for (const part of parts) {
      down.set(part.down, from * width);
      for (let o = 0; o < out; o++) {
        for (let r = 0; r < part.rank; r++) up[o * rank + from + r] = part.factor * part.up[o * part.rank + r]!;
      }
      from += part.rank;
    }
    merged.set(name, { down, up, rank });
  }
  return merged;
}
