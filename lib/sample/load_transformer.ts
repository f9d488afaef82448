/**
 * The transformer of a model folder on the GPU for sampling: frozen weights, and LoRAs as low-rank terms beside them.
 */
import { join } from "node:path";
import type { Session } from "../gpu/session.ts";
import { storageOf, type StorageType } from "../io/safetensors/half.ts";
import type { TensorSource } from "../io/safetensors/safetensors.ts";
import { openShards } from "../io/safetensors/shards.ts";
import { fitLora } from "../models/lora/fit.ts";
import { mergedSource, type ScaledLora } from "../models/lora/merge_into_weights.ts";
import { readLora } from "../models/lora/read.ts";
import type { ModelFolder } from "../models/folder/model_folder.ts";
import { declareTensors, Parameters } from "../models/transformer/parameters.ts";
import { parameterShapes, positionTableShape } from "../models/transformer/config.ts";
import { checkTensors, uploadTensors } from "../models/tensors/weights.ts";
import type { Adapter } from "../ops/linear.ts";
import { Tensor } from "../plan/tensor.ts";
import { type LoraChoice, mergeLoras } from "../models/lora/stack.ts";
import { describeStrays } from "../models/lora/strays.ts";

/** Options of {@linkcode loadTransformer}. */
export interface LoadOptions {
  /** Storage of matrices; by default as in the file, which is exact. */
  readonly dtype?: StorageType | undefined;
  readonly loras?: readonly LoraChoice[] | undefined;
  /** Keep matrices in host memory and copy them to the GPU block by block in every pass. Default false. */
  readonly streamed?: boolean | undefined;
}

/** How products are computed: with operands rounded to f16 on matrix units, or in float32. */
export type MatmulPrecision = "mixed" | "exact";

/**
 * Whether products may round their operands to f16. As in training, `mixed` means that where matrices are stored in two
 * bytes, as the file or `dtype` has them.
 */
export function roundsWhenSampling(
  { path }: ModelFolder,
  { dtype, precision }: { readonly dtype?: StorageType | undefined; readonly precision: MatmulPrecision },
): boolean {
  using source = openShards(join(path, "transformer"), "diffusion_pytorch_model");
  return precision === "mixed" && storedMatrices(source, dtype) !== "f32";
}

/** Storage of the matrices on the GPU: `dtype`, or that of the file. */
function storedMatrices({ tensors }: TensorSource, dtype: StorageType | undefined): StorageType | undefined {
  const stored = tensors.get("proj_out.weight");
  return dtype ?? (stored && storageOf(stored.dtype));
}

/** A loaded transformer. Dispose it to free its weights. */
export class LoadedTransformer implements Disposable {
  constructor(
    readonly session: Session,
    readonly parameters: Parameters,
    /** Storage of the matrices. */
    readonly dtype: StorageType,
    /** The stored table of learned positions, f32, for models that have one. */
    readonly learned: Float32Array<ArrayBuffer> | undefined,
    /** What the user should know about the LoRAs. */
    readonly notes: readonly string[],
  ) {}

  [Symbol.dispose](): void {
    for (const tensor of this.parameters.tensors.values()) this.session.free(tensor);
    for (const { down, up } of this.parameters.adapters.values()) {
      this.session.free(down);
      this.session.free(up);
    }
  }
}

/** Reads the LoRAs of a run and checks that they belong to the model. `notes` gets what the user should know. */
function readLoras(
  { transformer, path: folder }: ModelFolder,
  choices: readonly LoraChoice[],
  notes: string[],
): ScaledLora[] {
  return choices.map(({ path, strength }) => {
    const lora = readLora(path);
    const { matched, unmatched } = fitLora(lora, transformer, folder);
    if (!lora.alphaStored) {
      notes.push(
        `${path} does not state alpha: applied with alpha ${lora.alpha} at rank ${lora.rank}, as other loaders do`,
      );
    }
    notes.push(...describeStrays(lora.strays).map((text) => `${path}: not used: ${text}`));
    if (unmatched.length > 0) notes.push(`${path}: ${unmatched.length} layers are not in this model and are left out`);
    return { strength, modules: new Map(matched.map((layer) => [layer, lora.modules.get(layer)!])) };
  });
}

/** The layers of each LoRA that are decomposed (DoRA), or the others. */
function withNorms(loras: readonly ScaledLora[], decomposed: boolean): ScaledLora[] {
  return loras.map(({ modules, strength }) => {
    const chosen = [...modules].filter(([, { magnitude }]) => (magnitude !== undefined) === decomposed);
    return { strength, modules: new Map(chosen) };
  });
}

/** Resident adapters, uploaded. */
function uploadAdapters(session: Session, loras: readonly ScaledLora[]): Map<string, Adapter> {
  const adapters = new Map<string, Adapter>();
  for (const [name, { down, up, rank, inFeatures, outFeatures }] of mergeLoras(loras)) {
    const a = new Tensor(`${name}.lora_A`, [rank, inFeatures], "f32", { resident: true });
    const b = new Tensor(`${name}.lora_B`, [outFeatures, rank], "f32", { resident: true });
    session.write(a, down);
    session.write(b, up);
    adapters.set(name, { down: a, up: b, scale: 1 });
  }
  return adapters;
}

/**
 * Uploads the transformer of a model folder, with LoRAs. Plain ones stay beside the weights; a DoRA scales rows,
 * so those weights are merged as they are read.
 *
 * @throws {UserError} when the weights do not fit the config, or a LoRA does not belong to the model, listing every
 * tensor.
 */
export async function loadTransformer(
  session: Session,
  model: ModelFolder,
  { dtype, loras = [], streamed = false }: LoadOptions = {},
): Promise<LoadedTransformer> {
  const folder = join(model.path, "transformer");
  using source = openShards(folder, "diffusion_pytorch_model");
  const shapes = parameterShapes(model.transformer);
  const table = positionTableShape(model.transformer);
  checkTensors(source, shapes, folder);
  const matrix = storedMatrices(source, dtype)!;
  const tensors = declareTensors(shapes, { matrix, vector: "f32", streamed });
  const notes: string[] = [];
  const read = readLoras(model, loras, notes);
  const adapters = uploadAdapters(session, withNorms(read, false));
  const learned = table === undefined || !source.tensors.has(table.name) ? undefined : source.readF32(table.name);
  const loaded = new LoadedTransformer(session, new Parameters(tensors, adapters), matrix, learned, notes);
  try {
    await uploadTensors(session, mergedSource(source, withNorms(read, true)), tensors);
    return loaded;
  } catch (error) {
    loaded[Symbol.dispose]();
    throw error;
  }
}
