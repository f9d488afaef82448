/** The transformer of a model folder on the GPU for sampling: frozen weights, and LoRAs as low-rank terms beside them. */
import { join } from "node:path";
import type { Session } from "../gpu/session.ts";
import type { StorageType } from "../io/half.ts";
import { openShards } from "../io/shards.ts";
import { declareTensors, Parameters } from "../models/parameters.ts";
import { parameterShapes, positionTableShape, type TransformerConfig } from "../models/transformer_config.ts";
import { checkTensors, uploadTensors } from "../models/weights.ts";
import type { Adapter } from "../ops/linear.ts";
import { Tensor } from "../plan/tensor.ts";
import { type LoraChoice, mergeLoras, readLora } from "./lora_files.ts";

/** Options of {@linkcode loadBaseModel}. */
export interface BaseModelOptions {
  /** Storage of matrices; by default as in the file, which is exact. */
  readonly dtype?: StorageType | undefined;
  readonly loras?: readonly LoraChoice[] | undefined;
}

/** A loaded transformer. Dispose it to free its weights. */
export class BaseModel implements Disposable {
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

/** [out, in] of every linear layer. */
export function linearLayers(config: TransformerConfig): Map<string, readonly [number, number]> {
  const layers = new Map<string, readonly [number, number]>();
  for (const [name, shape] of parameterShapes(config)) {
    if (name.endsWith(".weight") && shape.length === 2) {
      layers.set(name.slice(0, -".weight".length), shape as [number, number]);
    }
  }
  return layers;
}

/** Resident adapters for LoRA files at their strengths, uploaded. `notes` gets a line per file of unknown alpha. */
function loadAdapters(
  session: Session,
  config: TransformerConfig,
  choices: readonly LoraChoice[],
  notes: string[],
): Map<string, Adapter> {
  const layers = linearLayers(config);
  const loras = choices.map(({ path, strength }) => ({ path, strength, file: readLora(path, layers) }));
  for (const { path, file } of loras) {
    if (!file.alphaKnown) notes.push(`${path} does not store alpha: applied with alpha = rank, as other loaders do`);
  }
  const adapters = new Map<string, Adapter>();
  for (const [name, { down, up, rank }] of mergeLoras(loras)) {
    const [out, width] = layers.get(name)!;
    const a = new Tensor(`${name}.lora_A`, [rank, width], "f32", { resident: true });
    const b = new Tensor(`${name}.lora_B`, [out, rank], "f32", { resident: true });
    session.write(a, down);
    session.write(b, up);
    adapters.set(name, { down: a, up: b, scale: 1 });
  }
  return adapters;
}

/**
 * Uploads the transformer of a model folder in the diffusers layout, with LoRAs.
 *
 * @throws {UserError} when weights or a LoRA do not fit the config, listing every tensor.
 */
export async function loadBaseModel(
  session: Session,
  modelFolder: string,
  config: TransformerConfig,
  { dtype, loras = [] }: BaseModelOptions = {},
): Promise<BaseModel> {
  const folder = join(modelFolder, "transformer");
  using source = openShards(folder, "diffusion_pytorch_model");
  const shapes = parameterShapes(config);
  const table = positionTableShape(config);
  checkTensors(source, shapes, { where: folder, ignored: table === undefined ? [] : [table.name] });
  const matrix = dtype ?? source.tensors.get("proj_out.weight")!.dtype.toLowerCase() as StorageType;
  const tensors = declareTensors(shapes, { matrix, vector: "f32" });
  const notes: string[] = [];
  const adapters = loadAdapters(session, config, loras, notes);
  const model = new BaseModel(
    session,
    new Parameters(tensors, adapters),
    matrix,
    table === undefined || !source.tensors.has(table.name) ? undefined : source.readF32(table.name),
    notes,
  );
  try {
    await uploadTensors(session, source, tensors);
    return model;
  } catch (error) {
    model[Symbol.dispose]();
    throw error;
  }
}
