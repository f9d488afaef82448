/**
 * Writes LoRA files that no loader applies at the wrong strength: alpha is in the file in the form that each format's
 * loaders read, and a file counts as saved only when reading it back gave every bit that was written.
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { UserError, UserErrors } from "../../errors.ts";
import { removeQuietly, temporaryName, writeFileAtomic } from "../../io/atomic.ts";
import { commitFolder } from "../../io/commit_folder.ts";
import type { Dtype } from "../../io/safetensors/dtypes.ts";
import { fileError, fileOperations, makeFolder } from "../../io/file_operations.ts";
import { encodeF32, type StorageType } from "../../io/safetensors/half.ts";
import { openSafetensors } from "../../io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../io/safetensors/writer.ts";
import { adaptedLayers, type LoraConfig, type LoraValues } from "./adapters.ts";
import { type BaseModel, baseModel } from "./base.ts";
import { type LoraFormat, loraKey, storesAlphaTensors } from "./keys.ts";
import { fileMetadata, peftConfig, peftTargets } from "./metadata.ts";
import { type LoraModule, type LoraModules, loraModules } from "./module.ts";
import { loraFileName, peftFileName } from "./read.ts";
import { parameterShapes, type TransformerConfig } from "../transformer/config.ts";

/** Options of {@linkcode writeLora}. */
export interface WriteLoraOptions {
  /** What the adapters were trained as. */
  readonly config: LoraConfig;
  /** Config of the base model; its identity goes into the file. */
  readonly base: TransformerConfig;
  /** Storage of A and B. Default f32, the type of the trained masters. */
  readonly dtype?: StorageType;
  /** Whether an existing file may be replaced. Default true: a run replaces its own result. */
  readonly replace?: boolean;
}

/**
 * Writes trained adapters as diffusers reads them, `pytorch_lora_weights.safetensors` with alpha in the adapter
 * metadata.
 *
 * @param target a path that ends in `.safetensors`, or a folder, created when it is missing.
 * @param values A [rank, in] and B [out, rank] by `LAYER.lora_A.weight` and `LAYER.lora_B.weight`, without padding.
 * @returns the path of the file.
 * @throws {UserError} when values are not finite, or the file can't be written or reads back differently; an earlier
 * file is untouched then.
 */
export async function writeLora(target: string, values: LoraValues, options: WriteLoraOptions): Promise<string> {
  const { config, base, dtype = "f32", replace = true } = options;
  const shapes = parameterShapes(base);
  const adapted = adaptedLayers(shapes, config);
  const modules = loraModules(values, (layer) => adapted.get(layer)?.alpha ?? config.alpha, shapes);
  const layers = [...shapes].filter(([name, shape]) => name.endsWith(".weight") && shape.length > 1)
    .map(([name]) => name.slice(0, -".weight".length));
  const targets = peftTargets([...modules.keys()], config.targets, layers);
  const { rankStabilised } = config;
  return await writeModules(target, modules, {
    format: "diffusers",
    dtype,
    replace,
    targets,
    base: baseModel(base),
    rankStabilised,
  });
}

/** Options of {@linkcode writeModules}. */
export interface WriteModulesOptions {
  readonly format: LoraFormat;
  /** Storage of A and B. Default f32. */
  readonly dtype?: StorageType;
  /** Whether an existing file may be replaced. Default false. */
  readonly replace?: boolean;
  /** `target_modules` of peft; by default the layers one by one. */
  readonly targets?: readonly string[];
  /** The model the LoRA belongs to. */
  readonly base?: BaseModel | undefined;
  /** Tell peft that alpha is divided by the root of the rank. */
  readonly rankStabilised?: boolean | undefined;
}

/**
 * Writes a LoRA in any format. SAT states no alpha and applies 1 / rank unless told otherwise, so B is multiplied by
 * alpha there.
 *
 * @param target a path that ends in `.safetensors`, or a folder: for peft one that must not exist and gets its config
 * too.
 * @returns the path of the safetensors file.
 * @throws {UserError} when the format has no place for a layer, the file exists, or it can't be written.
 */
export async function writeModules(
  target: string,
  modules: LoraModules,
  { format, dtype = "f32", replace = false, targets = [...modules.keys()], base, rankStabilised = false }:
    WriteModulesOptions,
): Promise<string> {
  const stored = format === "sat" ? foldAlpha(modules) : modules;
  const tensors = tensorsOf(stored, format, dtype);
  const config = format === "diffusers" || format === "peft"
    ? peftConfig(stored, { targets, rankStabilised })
    : undefined;
  const metadata = fileMetadata(stored, { base, adapter: config });
  const isFile = target.endsWith(".safetensors");
  if (format === "peft" && !isFile) {
    await commitFolder(target, async (folder) => {
      await writeVerified(join(folder, peftFileName), tensors, metadata);
      const peft = { base_model_name_or_path: null, ...config };
      await writeFileAtomic(join(folder, "adapter_config.json"), `${JSON.stringify(peft, null, 2)}\n`);
    }, { replace });
    return join(target, peftFileName);
  }
  const path = isFile ? target : join(target, loraFileName);
  if (!replace && existsSync(path)) throw new UserError(`"${path}" exists already`, "choose another name or remove it");
  makeFolder(dirname(path));
  await writeVerified(path, tensors, metadata);
  return path;
}

/** The same updates with alpha 1 in every layer. */
function foldAlpha(modules: LoraModules): LoraModules {
  const fold = (module: LoraModule): LoraModule => {
    return { ...module, alpha: 1, up: module.up.map((value) => value * module.alpha) };
  };
  return new Map([...modules].map(([layer, module]) => [layer, fold(module)]));
}

interface EncodedTensor extends TensorToWrite {
  readonly data: Uint8Array<ArrayBuffer>;
}

function tensorsOf(modules: LoraModules, format: LoraFormat, dtype: StorageType): EncodedTensor[] {
  const tensors: EncodedTensor[] = [];
  const problems: string[] = [];
  const type = dtype.toUpperCase() as Dtype;
  for (const [layer, { rank, inFeatures, outFeatures, kernel, alpha, down, up, magnitude }] of modules) {
    const [downKey, upKey] = [loraKey(format, layer, "down"), loraKey(format, layer, "up")];
    if (downKey === undefined || upKey === undefined) {
      problems.push(`"${layer}" has no name in it`);
      continue;
    }
    const all = magnitude === undefined ? [down, up] : [down, up, magnitude];
    if (!all.every((values) => values.every(Number.isFinite))) problems.push(`"${layer}" holds NaN or infinity`);
    if (dtype === "f16" && all.some((values) => values.some((value) => Math.abs(value) >= 65520))) {
      problems.push(`"${layer}" has values beyond the range of f16`);
    }
    const [rows, columns] = kernel ?? [];
    const input = rows === undefined ? [inFeatures] : [inFeatures / rows / columns!, rows, columns!];
    const ones = rows === undefined ? [] : [1, 1];
    tensors.push({ name: downKey, dtype: type, shape: [rank, ...input], data: encodeF32(down, dtype) });
    tensors.push({ name: upKey, dtype: type, shape: [outFeatures, rank, ...ones], data: encodeF32(up, dtype) });
    if (magnitude !== undefined) {
      const name = loraKey(format, layer, "magnitude");
      // As one column where the name is that of kohya's trainer.
      const shape = storesAlphaTensors(format) ? [outFeatures, 1] : [outFeatures];
      if (name === undefined) problems.push(`"${layer}" is a DoRA, which it has no place for`);
      else tensors.push({ name, dtype: type, shape, data: encodeF32(magnitude, dtype) });
    }
    if (storesAlphaTensors(format)) {
      const data = encodeF32(Float32Array.of(alpha), "f32");
      tensors.push({ name: loraKey(format, layer, "alpha")!, dtype: "F32", shape: [], data });
    }
  }
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot write this LoRA in the ${format} format as ${dtype}`,
      problems.length > 12 ? [...problems.slice(0, 12), `and ${problems.length - 12} more`] : problems,
      "values that are not finite come from a run that diverged; for the rest choose another format or dtype",
    );
  }
  return tensors;
}

/** Writes beside `path`, reads everything back, and only then gives the file its name. */
async function writeVerified(
  path: string,
  tensors: readonly EncodedTensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const temporary = temporaryName(path, "tmp");
  try {
    await writeSafetensors(temporary, tensors, { metadata });
    verifyWritten(temporary, tensors, metadata);
    fileOperations.rename(temporary, path);
    fileOperations.syncPath(dirname(path));
  } catch (error) {
    removeQuietly(fileOperations, temporary);
    throw fileError(error, "write", path);
  }
}

/**
 * Compares a file with what was to be written: names, types, shapes, every byte, metadata.
 *
 * @throws {UserErrors} listing the differences.
 */
export function verifyWritten(
  path: string,
  tensors: readonly { name: string; dtype: string; shape: readonly number[]; data: Uint8Array }[],
  metadata: Readonly<Record<string, string>>,
): void {
  using file = openSafetensors(path);
  const problems: string[] = [];
  for (const { name, dtype, shape, data } of tensors) {
    const info = file.tensors.get(name);
    if (info === undefined) problems.push(`"${name}" is missing`);
    else if (info.dtype !== dtype || `${info.shape}` !== `${shape}`) {
      problems.push(`"${name}" is ${info.dtype} [${info.shape}], expected ${dtype} [${shape}]`);
    } else if (!sameBytes(file.readBytes(name), data)) problems.push(`"${name}" has other values`);
  }
  if (file.tensors.size !== tensors.length) problems.push(`${file.tensors.size} tensors, expected ${tensors.length}`);
  for (const [key, value] of Object.entries(metadata)) {
    if (file.metadata.get(key) !== value) problems.push(`metadata "${key}" differs`);
  }
  if (problems.length === 0) return;
  throw new UserErrors(
    `"${path}" does not hold what was written`,
    problems.slice(0, 12),
    "the disk or the memory of this machine is faulty: choose another disk and save again",
  );
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
