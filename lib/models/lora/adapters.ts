/** Low-rank adapters: which linear layers get one, how they start, and where they live (LoRA, arXiv:2106.09685). */
import { UserError } from "../../errors.ts";
import type { Adapter } from "../../ops/linear.ts";
import { packTrainables, type TrainablePlaces, type Trainables } from "../tensors/trainables.ts";

/** Rank, strength and reach of the adapters. */
export interface LoraConfig {
  readonly rank: number;
  readonly alpha: number;
  /** Layer names (`to_q` matches every layer whose name ends in `.to_q`), or patterns with `*`. */
  readonly targets: readonly string[];
}

/** Adapters by layer name, with what trains them. */
export interface Lora {
  readonly config: LoraConfig;
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** Named `LAYER.lora_A.weight` and `LAYER.lora_B.weight`; ranks padded to a multiple of four with zeros. */
  readonly trainables: Trainables;
  /** [out, in] of every adapted layer. */
  readonly layers: ReadonlyMap<string, readonly [number, number]>;
}

/** Whether an adapter hardly acts; alpha 1, copied from the advice for other trainers, is the usual cause. */
export function isWeak(alpha: number, rank: number): boolean {
  return alpha / rank < 0.1;
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
    const kinds = new Set(linear.map(([name]) => name.replace(/^transformer_blocks\.\d+\./, "")));
    throw new UserError(
      targets.length === 0
        ? "target_modules is empty: a LoRA needs at least one layer"
        : `target_modules matches no linear layer: ${unmatched.map(({ target }) => `"${target}"`).join(", ")}`,
      `layers that can be adapted: ${[...kinds].join(", ")}`,
    );
  }
  return new Map(linear.filter(([name]) => matchers.some(({ matches }) => matches(name))));
}

/** Declares adapters for the layers that `config.targets` select. */
export function declareLora(
  shapes: ReadonlyMap<string, readonly number[]>,
  config: LoraConfig,
  onHost: TrainablePlaces = {},
): Lora {
  const layers = selectLayers(shapes, config.targets);
  const padded = Math.ceil(config.rank / 4) * 4;
  const matrices = (rank: number) =>
    new Map([...layers].flatMap(([layer, [out, inWidth]]): [string, readonly number[]][] => [
      [`${layer}.lora_A.weight`, [rank, inWidth]],
      [`${layer}.lora_B.weight`, [out, rank]],
    ]));
  const trainables = packTrainables(matrices(padded), "f32", { ...onHost, trueShapes: matrices(config.rank) });
  const tensor = (name: string) => trainables.byName.get(name)!.working;
  const adapters = new Map<string, Adapter>();
  for (const layer of layers.keys()) {
    adapters.set(layer, {
      down: tensor(`${layer}.lora_A.weight`),
      up: tensor(`${layer}.lora_B.weight`),
      scale: config.alpha / config.rank,
    });
  }
  return { config, adapters, trainables, layers };
}

/** Adapter values as files hold them: A [rank, in] and B [out, rank] by `LAYER.lora_A.weight` and `LAYER.lora_B.weight`. */
export type LoraValues = ReadonlyMap<string, Float32Array<ArrayBuffer>>;

/** Starting values: A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5, as peft does), B zero, so the first output is the base's. */
export function initialLora(lora: Lora, uniform: (count: number) => Float64Array): LoraValues {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [layer, [out, inWidth]] of lora.layers) {
    const bound = 1 / Math.sqrt(inWidth);
    const a = Float32Array.from(uniform(lora.config.rank * inWidth), (u) => (2 * u - 1) * bound);
    values.set(`${layer}.lora_A.weight`, a);
    values.set(`${layer}.lora_B.weight`, new Float32Array(out * lora.config.rank));
  }
  return values;
}

/** Whether a tensor is the A of an adapter, whose rows are the rank; B has the rank in its columns. */
function isDown(name: string): boolean {
  return name.endsWith(".lora_A.weight");
}

/** Widens the values of an adapter tensor to its padded shape [rows, columns]: A gains zero rows, B zero columns. */
export function padRank(
  name: string,
  values: Float32Array<ArrayBuffer>,
  [rows, columns]: readonly number[],
  rank: number,
): Float32Array<ArrayBuffer> {
  const padded = new Float32Array(rows! * columns!);
  if (isDown(name)) padded.set(values);
  else for (let r = 0; r < rows!; r++) padded.set(values.subarray(r * rank, (r + 1) * rank), r * columns!);
  return padded;
}

/** The reverse of {@linkcode padRank}: drops the zero rows of A or the zero columns of B. */
export function cropRank(
  name: string,
  values: Float32Array<ArrayBuffer>,
  [rows, columns]: readonly number[],
  rank: number,
): Float32Array<ArrayBuffer> {
  if (isDown(name)) return values.slice(0, rank * columns!);
  const cropped = new Float32Array(rows! * rank);
  for (let r = 0; r < rows!; r++) cropped.set(values.subarray(r * columns!, r * columns! + rank), r * rank);
  return cropped;
}
