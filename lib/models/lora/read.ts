/** Reads LoRA files of every format into layers with an explicit alpha. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { UserError, UserErrors } from "../../errors.ts";
import { FLOAT_DTYPES, floatType } from "../../io/safetensors/half.ts";
import { openSafetensors, type SafetensorsFile } from "../../io/safetensors/safetensors.ts";
import type { LoraValues } from "./adapters.ts";
import type { BaseModel } from "./base.ts";
import { type LoraFormat, type LoraPart, parseLoraKey } from "./keys.ts";
import { checkedAlpha, type Description, readDescription } from "./metadata.ts";
import { commonValue, type LoraModule, type LoraModules, loraValues } from "./module.ts";
import { describeStrays } from "./notes.ts";

/** Name of the file that diffusers looks for. */
export const loraFileName = "pytorch_lora_weights.safetensors";

/** Name of the file that peft looks for. */
export const peftFileName = "adapter_model.safetensors";

/** A LoRA file that was read. */
export interface LoraFile {
  /** The file, which lay in the folder that was given or is the one that was given. */
  readonly path: string;
  /** Whose names its keys follow. */
  readonly format: LoraFormat;
  /** The update of every layer. */
  readonly modules: LoraModules;
  /** The same as training holds it: `LAYER.lora_A.weight`, `LAYER.lora_B.weight`. */
  readonly values: LoraValues;
  /** Rank that most layers have. */
  readonly rank: number;
  /** Alpha that most layers have. */
  readonly alpha: number;
  /** Whether the file states alpha; otherwise it is what the loaders of its format assume. */
  readonly alphaStored: boolean;
  /** Ends of layer names, as `to_q`. */
  readonly targets: readonly string[];
  /** Element types of A and B. */
  readonly dtypes: readonly string[];
  /** The model it was trained on, when the file says so. */
  readonly base: BaseModel | undefined;
  /** Keys that belong to no layer of the transformer. */
  readonly strays: readonly string[];
  /** What the file's header says in words. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Options of {@linkcode readLora}. */
export interface ReadLoraOptions {
  /** Alpha to use whatever the file says. */
  readonly alpha?: number | undefined;
}

const MAX_PROBLEMS = 12;

/** Keys of updates that are more than a product of two matrices. */
const OTHER_KINDS = [
  [/\.hada_w\d/, "a LoHa"],
  [/\.lokr_w\d/, "a LoKr"],
  [/lora_B\.(default\.)?bias$/, "a LoRA with biases"],
  [/lora_mid/, "a LoCon with Tucker decomposition"],
] as const;

/**
 * Reads a LoRA file, or the folder it is in, in any of the known formats. Layers may have different ranks and alphas.
 *
 * @throws {UserError} when the file is missing, broken, or holds no LoRA of this kind; all problems at once.
 * @example
 * ```ts
 * import { readLora } from "@cogtune/cogtune";
 *
 * const { rank, alphaStored, modules } = readLora("tests/golden/lora/5b-meta");
 * for (const [layer, { up, outFeatures }] of modules) {
 *   if (up.length !== outFeatures * rank) throw new Error(`${layer} has a rank of its own`);
 * }
 * if (!alphaStored) throw new Error("the strength of this LoRA is a guess");
 * ```
 */
export function readLora(path: string, { alpha }: ReadLoraOptions = {}): LoraFile {
  if (alpha !== undefined) checkedAlpha(alpha, "alpha", "--alpha");
  using file = openSafetensors(findLora(path));
  const found = readPairs(file);
  const where = `"${file.path}"`;
  const stated: Description = alpha === undefined
    ? readDescription(file.metadata, where, configBeside(file.path))
    : { alphaOf: () => alpha, base: descriptionOf(file, where)?.base };
  const problems: string[] = [];
  const modules = new Map<string, LoraModule>();
  let alphaStored = true;
  for (const [layer, keys] of found.layers) {
    const shape = pairShape(file, layer, keys, problems);
    if (shape === undefined) continue;
    const known = alpha ?? alphaTensor(file, keys.alpha, problems) ?? stated.alphaOf(layer, shape.rank);
    alphaStored &&= known !== undefined;
    const [down, up] = [file.readF32(keys.down!), file.readF32(keys.up!)];
    const magnitude = magnitudes(file, keys.magnitude, shape, problems);
    if (![down, up, magnitude ?? []].every((values) => values.every(Number.isFinite))) {
      problems.push(`"${layer}" holds NaN or infinity`);
    }
    modules.set(layer, { ...shape, alpha: known ?? assumedAlpha(found.format, shape.rank), down, up, magnitude });
  }
  if (stated.decomposed === true && ![...modules.values()].some(({ magnitude }) => magnitude !== undefined)) {
    problems.push("it says that it is a DoRA, but holds no norms (lora_magnitude_vector)");
  }
  throwProblems(where, problems);
  const list = [...modules.values()];
  const dtypes = new Set([...found.layers.values()].map(({ down }) => file.tensors.get(down!)!.dtype));
  return {
    path: file.path,
    format: found.format,
    modules,
    values: loraValues(modules),
    rank: commonValue(list.map((module) => module.rank)),
    alpha: commonValue(list.map((module) => module.alpha)),
    alphaStored,
    targets: targetsOf(modules.keys()),
    dtypes: [...dtypes],
    base: stated.base,
    strays: found.strays,
    metadata: file.metadata,
  };
}

/** What loaders take where a file states no alpha: 1 in SAT, whose default it is, the rank everywhere else. */
export function assumedAlpha(format: LoraFormat, rank: number): number {
  return format === "sat" ? 1 : rank;
}

/** Distinct ends of layer names. */
export function targetsOf(layers: Iterable<string>): string[] {
  return [...new Set([...layers].map((name) => name.replace(/^transformer_blocks\.\d+\.(attn\d+\.)?/, "")))];
}

function findLora(path: string): string {
  if (!existsSync(path) || !statSync(path).isDirectory()) return path;
  const files = readdirSync(path).filter((name) => name.endsWith(".safetensors")).sort();
  const name = [loraFileName, peftFileName].find((name) => files.includes(name)) ??
    (files.length === 1 ? files[0] : undefined);
  if (name !== undefined) return join(path, name);
  throw new UserError(
    files.length === 0 ? `"${path}" holds no .safetensors file` : `"${path}" holds several LoRAs: ${files.join(", ")}`,
    "give the LoRA file itself",
  );
}

/** Text of peft's config when the file has the name peft gives it. */
function configBeside(path: string): string | undefined {
  const config = join(dirname(path), "adapter_config.json");
  return basename(path) === peftFileName && existsSync(config) ? readFileSync(config, "utf8") : undefined;
}

/** The description of a file whose alpha is given: entries that can't be read don't matter then. */
function descriptionOf(file: SafetensorsFile, where: string): Description | undefined {
  try {
    return readDescription(file.metadata, where);
  } catch {
    return undefined;
  }
}

type Keys = Partial<Record<LoraPart, string>>;

function readPairs(file: SafetensorsFile): { format: LoraFormat; layers: Map<string, Keys>; strays: string[] } {
  const layers = new Map<string, Keys>();
  const strays: string[] = [];
  const problems: string[] = [];
  const formats = new Set<LoraFormat>();
  for (const key of file.tensors.keys()) {
    const kind = OTHER_KINDS.find(([pattern]) => pattern.test(key))?.[1];
    if (kind !== undefined) {
      throw new UserError(
        `"${file.path}" is ${kind} ("${key}"): only plain LoRA can be read`,
        "merge it where it was made",
      );
    }
    const parsed = parseLoraKey(key);
    if (parsed === undefined) {
      strays.push(key);
      continue;
    }
    formats.add(parsed.format);
    const keys = layers.get(parsed.layer) ?? {};
    if (keys[parsed.part] !== undefined) problems.push(`"${keys[parsed.part]}" and "${key}" are the same tensor`);
    layers.set(parsed.layer, { ...keys, [parsed.part]: key });
  }
  for (const [layer, { down, up }] of layers) {
    if (down === undefined || up === undefined) {
      problems.push(`"${layer}" has ${down ? "no B" : up ? "no A" : "neither A nor B"}`);
    }
  }
  throwProblems(`"${file.path}"`, problems);
  if (layers.size === 0) {
    throw new UserError(
      `"${file.path}" holds no LoRA for the CogVideoX transformer: it has ` +
        (strays.length === 0 ? "no tensors" : describeStrays(strays).join("; ")),
      "expected pairs like transformer.transformer_blocks.0.attn1.to_q.lora_A.weight and lora_B.weight",
    );
  }
  return { format: [...formats][0]!, layers, strays };
}

type PairShape = Pick<LoraModule, "rank" | "inFeatures" | "outFeatures" | "kernel">;

/**
 * Shape of a pair, A [rank, in, ...kernel] and B [out, rank, ...ones]; undefined, with the problem noted, when it is
 * none.
 */
function pairShape(file: SafetensorsFile, layer: string, keys: Keys, problems: string[]): PairShape | undefined {
  const [down, up] = [file.tensors.get(keys.down!)!, file.tensors.get(keys.up!)!];
  const [rank, ...input] = down.shape;
  const [outFeatures, upRank, ...ones] = up.shape;
  const sound = (down.shape.length === 2 || down.shape.length === 4) && down.shape.length === up.shape.length &&
    ones.every((size) => size === 1) && rank === upRank && rank! > 0 && outFeatures! > 0 && !input.includes(0);
  if (!sound) {
    problems.push(`"${layer}": expected A [rank, in] and B [out, rank], found [${down.shape}] and [${up.shape}]`);
    return undefined;
  }
  const unusable = [down, up].find(({ dtype }) => floatType(dtype) === undefined);
  if (unusable !== undefined) {
    problems.push(`"${layer}" is stored as ${unusable.dtype}: expected ${FLOAT_DTYPES}`);
    return undefined;
  }
  const kernel = input.length === 3 ? [input[1]!, input[2]!] as const : undefined;
  return { rank: rank!, inFeatures: input.reduce((a, b) => a * b, 1), outFeatures: outFeatures!, kernel };
}

/**
 * The norms of the rows, [out] with ones around. Some trainers of the LyCORIS family normalise columns, [1, in], which
 * no adapter beside the weights can do.
 */
function magnitudes(
  file: SafetensorsFile,
  key: string | undefined,
  { outFeatures }: PairShape,
  problems: string[],
): Float32Array<ArrayBuffer> | undefined {
  if (key === undefined) return undefined;
  const { shape, dtype } = file.tensors.get(key)!;
  const isColumns = key.endsWith(".dora_scale") && shape.length > 1 && shape[0] !== outFeatures;
  if (isColumns || shape.reduce((a, b) => a * b, 1) !== outFeatures) {
    problems.push(
      `"${key}" [${shape}] does not hold the norms of ${outFeatures} rows: cogtune applies DoRA by rows, as peft does`,
    );
  } else if (floatType(dtype) === undefined) problems.push(`"${key}" is stored as ${dtype}: expected ${FLOAT_DTYPES}`);
  else return file.readF32(key);
  return undefined;
}

function alphaTensor(file: SafetensorsFile, key: string | undefined, problems: string[]): number | undefined {
  if (key === undefined) return undefined;
  const { shape, dtype } = file.tensors.get(key)!;
  const one = shape.every((size) => size === 1) && floatType(dtype) !== undefined;
  const value = one ? file.readF32(key)[0]! : NaN;
  if (Number.isFinite(value) && value > 0) return value;
  problems.push(`"${key}" is ${one ? value : `${dtype} [${shape}]`}: expected one positive number`);
  return undefined;
}

function throwProblems(where: string, problems: readonly string[]): void {
  if (problems.length === 0) return;
  const more = problems.length - MAX_PROBLEMS;
  const shown = more > 0 ? [...problems.slice(0, MAX_PROBLEMS), `and ${more} more`] : problems;
  throw new UserErrors(
    `Cannot use the LoRA ${where}`,
    shown,
    "the file is damaged, or of a kind that cogtune does not read",
  );
}
