/** Low-rank adapters: which linear layers get one, how they start, and where they live (LoRA, arXiv:2106.09685). */
import { UserError } from "../../errors.ts";
import type { Adapter } from "../../ops/linear.ts";
import { packTrainables, type TrainablePlaces, type Trainables } from "../tensors/trainables.ts";

/** A value for the layers that a pattern names, in the way of {@linkcode LoraConfig.targets}. */
export interface LayerValue {
  readonly pattern: string;
  readonly value: number;
}

/** Rank, strength and reach of the adapters. */
export interface LoraConfig {
  readonly rank: number;
  readonly alpha: number;
  /** Layer names (`to_q` matches every layer whose name ends in `.to_q`), or patterns with `*`. */
  readonly targets: readonly string[];
  /** Ranks and alphas of single layers; the first pattern that names a layer counts, as in peft. */
  readonly ranks?: readonly LayerValue[];
  readonly alphas?: readonly LayerValue[];
  /** Scale by alpha / sqrt(rank), with which a high rank learns as fast as a low one (rsLoRA, arXiv:2312.03732). */
  readonly rankStabilised?: boolean;
  /** Train the norms of the rows of W + s B A apart from their directions (DoRA, arXiv:2402.09353). */
  readonly decomposed?: boolean;
}

/** The adapter of one layer. */
export interface LoraLayer {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly rank: number;
  /** The update is alpha / rank B A, also where the config's alpha is divided by the root of the rank. */
  readonly alpha: number;
}

/** Adapters by layer name, with what trains them. */
export interface Lora {
  readonly config: LoraConfig;
  readonly adapters: ReadonlyMap<string, Adapter>;
  /**
   * Named `LAYER.lora_A.weight`, `LAYER.lora_B.weight` and, when decomposed, `LAYER.lora_magnitude_vector`; ranks
   * padded to a multiple of four with zeros.
   */
  readonly trainables: Trainables;
  readonly layers: ReadonlyMap<string, LoraLayer>;
}

/**
 * Whether an adapter of this scale hardly acts; alpha 1, copied from the advice for other trainers, is the usual cause.
 */
export function isWeak(scale: number): boolean {
  return scale < 0.1;
}

function withoutBlock(layer: string): string {
  return layer.replace(/^transformer_blocks\.\d+\./, "");
}

function matcher(target: string): (layer: string) => boolean {
  if (!target.includes("*")) return (layer) => layer === target || layer.endsWith(`.${target}`);
  const pattern = target.split("*").map((part) => part.replace(/[.\\+?^${}()|[\]]/g, "\\$&")).join(".*");
  const expression = new RegExp(`^(.*\\.)?${pattern}$`);
  return (layer) => expression.test(layer);
}

/**
 * The linear layers that `targets` name, in model order.
 *
 * @throws {UserError} naming the targets that match nothing and the names there are.
 */
export function selectLayers(
  shapes: ReadonlyMap<string, readonly number[]>,
  targets: readonly string[],
): Map<string, readonly [number, number]> {
  const linear = [...shapes].filter(([name, shape]) => name.endsWith(".weight") && shape.length === 2)
    .map(([name, shape]) => [name.slice(0, -".weight".length), shape as [number, number]] as const);
  const matchers = targets.map((target) => ({ target, matches: matcher(target) }));
  const unmatched = matchers.filter(({ matches }) => !linear.some(([name]) => matches(name)));
  if (targets.length === 0 || unmatched.length > 0) {
    const kinds = new Set(linear.map(([name]) => withoutBlock(name)));
    throw new UserError(
      targets.length === 0
        ? "target_modules is empty: a LoRA needs at least one layer"
        : `target_modules matches no linear layer: ${unmatched.map(({ target }) => `"${target}"`).join(", ")}`,
      `layers that can be adapted: ${[...kinds].join(", ")}`,
    );
  }
  return new Map(linear.filter(([name]) => matchers.some(({ matches }) => matches(name))));
}

/** The first value whose pattern names the layer. Throws UserError for a pattern that names none of `layers`. */
function valueLookup(
  key: string,
  values: readonly LayerValue[],
  layers: Iterable<string>,
): (layer: string) => number | undefined {
  const names = [...layers];
  const lookups = values.map(({ pattern, value }) => ({ pattern, value, matches: matcher(pattern) }));
  const unmatched = lookups.filter(({ matches }) => !names.some(matches));
  if (unmatched.length > 0) {
    throw new UserError(
      `${key} matches no adapted layer: ${unmatched.map(({ pattern }) => `"${pattern}"`).join(", ")}`,
      `adapted layers: ${[...new Set(names.map(withoutBlock))].join(", ")}`,
    );
  }
  return (layer) => lookups.find(({ matches }) => matches(layer))?.value;
}

/**
 * The layers that `config` adapts, in model order.
 *
 * @throws {UserError} naming targets and patterns that match nothing.
 */
export function adaptedLayers(
  shapes: ReadonlyMap<string, readonly number[]>,
  { rank, alpha, targets, ranks = [], alphas = [], rankStabilised = false }: LoraConfig,
): Map<string, LoraLayer> {
  const selected = selectLayers(shapes, targets);
  const rankOf = valueLookup("rank_pattern", ranks, selected.keys());
  const alphaOf = valueLookup("alpha_pattern", alphas, selected.keys());
  return new Map([...selected].map(([layer, [outFeatures, inFeatures]]) => {
    const own = rankOf(layer) ?? rank;
    const factor = rankStabilised ? Math.sqrt(own) : 1;
    return [layer, { outFeatures, inFeatures, rank: own, alpha: (alphaOf(layer) ?? alpha) * factor }];
  }));
}

/** Declares the adapters of {@linkcode adaptedLayers}. */
export function declareLora(
  shapes: ReadonlyMap<string, readonly number[]>,
  config: LoraConfig,
  onHost: TrainablePlaces = {},
): Lora {
  const layers = adaptedLayers(shapes, config);
  const matrices = (stored: (rank: number) => number) =>
    new Map([...layers].flatMap(([layer, { outFeatures, inFeatures, rank }]): [string, readonly number[]][] => [
      [`${layer}.lora_A.weight`, [stored(rank), inFeatures]],
      [`${layer}.lora_B.weight`, [outFeatures, stored(rank)]],
      ...(config.decomposed === true ? [[`${layer}.lora_magnitude_vector`, [outFeatures]] as [string, number[]]] : []),
    ]));
  const padded = matrices((rank) => Math.ceil(rank / 4) * 4);
  const trainables = packTrainables(padded, "f32", { ...onHost, trueShapes: matrices((rank) => rank) });
  const tensor = (name: string) => trainables.byName.get(name)!.working;
  const adapters = new Map<string, Adapter>();
  for (const [layer, { rank, alpha }] of layers) {
    const [down, up] = [tensor(`${layer}.lora_A.weight`), tensor(`${layer}.lora_B.weight`)];
    const magnitude = config.decomposed === true ? { magnitude: tensor(`${layer}.lora_magnitude_vector`) } : {};
    adapters.set(layer, { down, up, scale: alpha / rank, ...magnitude });
  }
  return { config, adapters, trainables, layers };
}

/**
 * Adapter values as files hold them: A [rank, in] and B [out, rank] by `LAYER.lora_A.weight` and `LAYER.lora_B.weight`,
 * of decomposed ones also the norms [out] by `LAYER.lora_magnitude_vector`.
 */
export type LoraValues = ReadonlyMap<string, Float32Array<ArrayBuffer>>;

/**
 * Starting values of A and B: A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5, as peft does), B zero, so the first
 * output is the base's.
 */
export function initialLora(lora: Lora, uniform: (count: number) => Float64Array): LoraValues {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [layer, { outFeatures, inFeatures, rank }] of lora.layers) {
    const bound = 1 / Math.sqrt(inFeatures);
    const a = Float32Array.from(uniform(rank * inFeatures), (u) => (2 * u - 1) * bound);
    values.set(`${layer}.lora_A.weight`, a);
    values.set(`${layer}.lora_B.weight`, new Float32Array(outFeatures * rank));
  }
  return values;
}

/** A matrix (or vector) of other size: what both have in common, and zeros. Ranks are padded and cropped so. */
export function resizeMatrix(
  values: Float32Array<ArrayBuffer>,
  [rows, columns = 1]: readonly number[],
  [newRows, newColumns = 1]: readonly number[],
): Float32Array<ArrayBuffer> {
  const resized = new Float32Array(newRows! * newColumns);
  const width = Math.min(columns, newColumns);
  for (let r = 0; r < Math.min(rows!, newRows!); r++) {
    resized.set(values.subarray(r * columns, r * columns + width), r * newColumns);
  }
  return resized;
}
