/** What a LoRA file holds: modules, ranks, alpha, and how far each module moves its weight. */
import { UserError } from "../errors.ts";
import { openSafetensors, type SafetensorsFile } from "../io/safetensors.ts";

/** One adapted linear layer. */
export interface LoraModule {
  /** Key without the part that tells A from B. */
  readonly name: string;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly dtype: string;
  /** Alpha from the adapter metadata, undefined when none is stored. */
  readonly alpha: number | undefined;
  /** Frobenius norm of scale * B * A, the change of the weight; scale is alpha / rank, or 1 when alpha is not stored. */
  readonly norm: number;
}

/** A whole LoRA file. */
export interface LoraReport {
  readonly modules: readonly LoraModule[];
  /** Distinct last parts of module names, as to_q. */
  readonly targets: readonly string[];
  /** Keys that belong to no pair. */
  readonly strays: readonly string[];
  readonly metadata: ReadonlyMap<string, string>;
}

const downKey = /^(.+)\.lora(?:_A|_down|\.down)(\.default)?\.weight$/;

/** Reads a LoRA file. Throws UserError when it holds no pair of LoRA tensors, or a pair whose shapes do not fit. */
export function inspectLora(path: string): LoraReport {
  using file = openSafetensors(path);
  const alphaOf = readAlpha(file);
  const paired = new Set<string>();
  const modules: LoraModule[] = [];
  for (const key of file.tensors.keys()) {
    const name = downKey.exec(key)?.[1];
    const upKey = key.replace(/lora_A/, "lora_B").replace(/lora_down/, "lora_up").replace(/lora\.down/, "lora.up");
    if (name === undefined || !file.tensors.has(upKey)) continue;
    paired.add(key).add(upKey);
    modules.push(readModule(file, name, key, upKey, alphaOf(name)));
  }
  if (modules.length === 0) {
    throw new UserError(
      `${path} holds no LoRA: none of its ${file.tensors.size} tensors is a pair NAME.lora_A.weight, NAME.lora_B.weight`,
    );
  }
  const targets = [...new Set(modules.map(({ name }) => name.replace(/^.*?\d+\.(attn\d+\.)?/, "")))];
  const strays = [...file.tensors.keys()].filter((key) => !paired.has(key));
  return { modules, targets, strays, metadata: file.metadata };
}

function readModule(
  file: SafetensorsFile,
  name: string,
  downKey: string,
  upKey: string,
  alpha: number | undefined,
): LoraModule {
  const [down, up] = [file.tensors.get(downKey)!, file.tensors.get(upKey)!];
  const [rank, inFeatures] = down.shape;
  const [outFeatures, upRank] = up.shape;
  if (down.shape.length !== 2 || up.shape.length !== 2 || rank !== upRank) {
    throw new UserError(
      `${name}: expected A [rank, in] and B [out, rank], found [${down.shape}] and [${up.shape}]`,
      "The file is damaged, or holds an adapter of another kind",
    );
  }
  const norm = productNorm(file.readF32(downKey), file.readF32(upKey), rank!) *
    (alpha === undefined ? 1 : alpha / rank!);
  return { name, rank: rank!, inFeatures: inFeatures!, outFeatures: outFeatures!, dtype: down.dtype, alpha, norm };
}

/**
 * Frobenius norm of B * A without the product: the sum over (A * A^T) and (B^T * B), both rank x rank, element by
 * element.
 */
export function productNorm(a: Float32Array, b: Float32Array, rank: number): number {
  const [inFeatures, outFeatures] = [a.length / rank, b.length / rank];
  const gramB = new Float64Array(rank * rank);
  for (let row = 0; row < outFeatures; row++) {
    const start = row * rank;
    for (let i = 0; i < rank; i++) {
      const factor = b[start + i]!;
      for (let j = 0; j <= i; j++) gramB[i * rank + j]! += factor * b[start + j]!;
    }
  }
  let square = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) {
      let dot = 0;
      for (let k = 0; k < inFeatures; k++) dot += a[i * inFeatures + k]! * a[j * inFeatures + k]!;
      square += (i === j ? 1 : 2) * dot * gramB[i * rank + j]!;
    }
  }
  return Math.sqrt(Math.max(0, square));
}

/**
 * Reads alpha where diffusers looks for it: JSON in the metadata entry `lora_adapter_metadata`, keys prefixed by the
 * model part.
 */
function readAlpha(file: SafetensorsFile): (name: string) => number | undefined {
  const text = file.metadata.get("lora_adapter_metadata");
  if (text === undefined) return () => undefined;
  const record = parseObject(text);
  const prefix = Object.keys(record).find((key) => key.endsWith("lora_alpha"))?.replace(/lora_alpha$/, "") ?? "";
  const patterns = Object.entries((record[`${prefix}alpha_pattern`] ?? {}) as Record<string, unknown>);
  const common = record[`${prefix}lora_alpha`];
  return (name) => {
    // A pattern names the end of a module, or is a regular expression for it.
    const own = patterns.find(([pattern]) => name.endsWith(pattern) || matches(pattern, name))?.[1];
    const alpha = own ?? common;
    return typeof alpha === "number" && Number.isFinite(alpha) ? alpha : undefined;
  };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

function matches(pattern: string, name: string): boolean {
  try {
    return new RegExp(`(^|\\.)(?:${pattern})$`).test(name);
  } catch {
    return false;
  }
}
