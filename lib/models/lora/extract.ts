/** A LoRA from a fully fine-tuned model: the best low-rank approximation of what training changed in each layer. */
import { UserErrors } from "../../errors.ts";
import { nextTurn } from "../../io/hash.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { selectLayers } from "./adapters.ts";
import { baseModel, baseName } from "./base.ts";
import type { LoraModule, LoraModules } from "./module.ts";
import { truncatedSvd } from "./svd.ts";
import type { OpenTransformer } from "../transformer/file.ts";
import { parameterShapes } from "../transformer/config.ts";

/** Options of {@linkcode extractLora}. */
export interface ExtractOptions {
  /** Rank of the result; narrower layers get their width. */
  readonly rank: number;
  /** Layers to approximate, as `target_modules` of training; by default every linear layer. */
  readonly targets?: readonly string[] | undefined;
  /** Called when a layer is about to be decomposed. */
  readonly onLayer?: (layer: string) => void;
}

/** How much of a change the LoRA holds. */
export interface LayerLoss {
  readonly layer: string;
  /** Norm of the change relative to the weight. */
  readonly change: number;
  /** Norm of what the LoRA misses relative to the change. */
  readonly error: number;
}

/** Result of {@linkcode extractLora}. */
export interface Extraction {
  /** Updates with alpha equal to the rank; empty when nothing changed. */
  readonly modules: LoraModules;
  readonly losses: readonly LayerLoss[];
  /** Error over all layers together. */
  readonly error: number;
  /**
   * Changed tensors a LoRA can't hold (biases, norms) or that `targets` leave out, with the relative change of each.
   */
  readonly left: readonly { readonly name: string; readonly change: number }[];
}

/**
 * Approximates `tuned` - `base` layer by layer.
 *
 * @throws {UserErrors} when the two are different models, {UserError} when targets match nothing.
 */
export async function extractLora(
  base: OpenTransformer,
  tuned: OpenTransformer,
  { rank, targets, onLayer }: ExtractOptions,
): Promise<Extraction> {
  checkSameModel(base, tuned);
  const shapes = parameterShapes(base.config);
  const linear = [...shapes].filter(([name, shape]) => name.endsWith(".weight") && shape.length === 2)
    .map(([name]) => name.slice(0, -".weight".length));
  const selected = selectLayers(shapes, targets ?? linear);
  const modules = new Map<string, LoraModule>();
  const losses: LayerLoss[] = [];
  const left: { name: string; change: number }[] = [];
  let [changed, missed] = [0, 0];
  for (const name of shapes.keys()) {
    await nextTurn();
    const { delta, norm, weightNorm } = difference(base.source, tuned.source, name);
    if (norm === 0) continue;
    const layer = name.slice(0, -".weight".length);
    const shape = name.endsWith(".weight") ? selected.get(layer) : undefined;
    if (shape === undefined) {
      left.push({ name, change: norm / weightNorm });
      continue;
    }
    onLayer?.(layer);
    const { module, error } = decompose(delta, shape, Math.min(rank, ...shape), norm);
    modules.set(layer, module);
    losses.push({ layer, change: norm / weightNorm, error: error / norm });
    changed += norm ** 2;
    missed += error ** 2;
  }
  return { modules, losses, error: Math.sqrt(missed / (changed || 1)), left };
}

function checkSameModel(base: OpenTransformer, tuned: OpenTransformer): void {
  const [expected, found] = [baseModel(base.config), baseModel(tuned.config)];
  if (expected.digest === found.digest) return;
  throw new UserErrors(
    `Cannot compare two models`,
    [`"${base.folder}" is ${baseName(expected)}`, `"${tuned.folder}" is ${baseName(found)}`],
    "give the model that was fine-tuned as model_path",
  );
}

function difference(
  base: TensorSource,
  tuned: TensorSource,
  name: string,
): { delta: Float64Array; norm: number; weightNorm: number } {
  const [before, after] = [base.readF32(name), tuned.readF32(name)];
  const delta = new Float64Array(before.length);
  let [square, weight] = [0, 0];
  for (let i = 0; i < delta.length; i++) {
    const change = after[i]! - before[i]!;
    delta[i] = change;
    square += change * change;
    weight += before[i]! ** 2;
  }
  return { delta, norm: Math.sqrt(square), weightNorm: Math.sqrt(weight) || 1 };
}

/** B = U sqrt(S) and A = sqrt(S) V^T, so that both halves are of one size. */
function decompose(
  delta: Float64Array,
  [outFeatures, inFeatures]: readonly [number, number],
  rank: number,
  norm: number,
): { module: LoraModule; error: number } {
  const { u, s, vt } = truncatedSvd(delta, outFeatures, inFeatures, rank);
  const up = Float32Array.from(u, (value, at) => value * Math.sqrt(s[at % rank]!));
  const down = Float32Array.from(vt, (value, at) => value * Math.sqrt(s[Math.floor(at / inFeatures)]!));
  // U is an orthonormal basis of a projection, so the kept and the missed part are orthogonal.
  const kept = s.reduce((sum, value) => sum + value * value, 0);
  const error = Math.sqrt(Math.max(0, norm ** 2 - kept));
  return { module: { rank, alpha: rank, inFeatures, outFeatures, down, up }, error };
}
