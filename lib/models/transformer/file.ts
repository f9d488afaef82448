/**
 * The `transformer/` folder of a diffusers pipeline: opened as a base model, and written as one that diffusers loads as
 * it is.
 */
import { createHash, type Hash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { commitFolder } from "../../io/commit_folder.ts";
import type { Dtype } from "../../io/safetensors/dtypes.ts";
import { fileError } from "../../io/file_operations.ts";
import { requireFinite } from "../../io/safetensors/finite.ts";
import { decodeF32, encodeF32, storageBytes, type StorageType } from "../../io/safetensors/half.ts";
import { nextTurn } from "../../io/hash.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../io/safetensors/writer.ts";
import { openShards } from "../../io/safetensors/shards.ts";
import { parameterShapes, parseTransformerConfig, positionTableShape, type TransformerConfig } from "./config.ts";
import { checkTensors } from "../tensors/weights.ts";

/** Name of the weights, before the number of a shard. */
const BASE_NAME = "diffusion_pytorch_model";

/** The limit diffusers' own tools use for this model, 5 GB in decimal bytes. */
const MAX_SHARD_BYTES = 5e9;

/** Bytes read back at a time. */
const BLOCK_BYTES = 16 * 2 ** 20;

/** An opened model. */
export interface OpenTransformer extends Disposable {
  /** Folder with config.json and weights. */
  readonly folder: string;
  readonly config: TransformerConfig;
  /** Text of config.json. */
  readonly configJson: string;
  readonly source: TensorSource;
}

/**
 * Opens the transformer of a diffusers folder, given the pipeline or its `transformer/` folder; names and shapes are
 * checked.
 *
 * @throws {UserError} when files are missing, or config and weights don't belong together.
 */
export function openTransformer(path: string): OpenTransformer {
  const nested = join(path, "transformer");
  const folder = existsSync(nested) ? nested : path;
  const file = join(folder, "config.json");
  let configJson: string;
  let json: unknown;
  try {
    configJson = readFileSync(file, "utf8");
    json = JSON.parse(configJson);
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`"${file}" is not JSON: ${error.message}`, "get it again");
    throw fileError(error, "read", file);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UserError(`"${file}" is not a JSON object`, "get it again");
  }
  const config = parseTransformerConfig(json as Record<string, unknown>, `"${file}"`);
  const source = openShards(folder, BASE_NAME);
  try {
    checkShapes(source, config, `"${folder}"`);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
  return {
    folder,
    config,
    configJson,
    source: modelTensors(source, config),
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

/** A source without the tensors that the model has no use for. */
function modelTensors(source: TensorSource, config: TransformerConfig): TensorSource {
  const names = new Set([...parameterShapes(config).keys(), positionTableShape(config)?.name]);
  return {
    tensors: new Map([...source.tensors].filter(([name]) => names.has(name))),
    readBytes: (...range) => source.readBytes(...range),
    readInto: (...range) => source.readInto(...range),
    readF32: (name) => source.readF32(name),
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

function checkShapes(source: TensorSource, config: TransformerConfig, where: string): void {
  checkTensors(source, parameterShapes(config), where);
}

/** A tensor on its way into a transformer folder. */
export interface TransformerTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Type of the bytes that `data` gives. */
  readonly dtype: StorageType;
  /**
   * Yields the little-endian values in order, whole elements at a time; called once, when it is the turn of this
   * tensor.
   */
  readonly data: () => Iterable<Uint8Array<ArrayBuffer>> | AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** Options of {@linkcode writeTransformer}. */
export interface WriteTransformerOptions {
  /** Storage of all tensors, or of each by name; by default the type of its data. */
  readonly dtype?: StorageType | ReadonlyMap<string, StorageType>;
  /** Largest shard in bytes; a single tensor may exceed it. Default 5 GB. */
  readonly maxShardBytes?: number;
}

/**
 * Writes a `transformer/` folder that diffusers loads with no further step: config.json as given, weights in one file,
 * or in shards with an index. Every tensor is read back and compared by its hash before the folder gets its name, so
 * `folder` holds everything or does not exist.
 *
 * @param configJson text of config.json; the tensors must be exactly those it describes.
 * @throws {UserError} when `folder` exists, can't be written, or a value is not finite or does not fit into f16.
 */
export async function writeTransformer(
  folder: string,
  configJson: string,
  tensors: readonly TransformerTensor[],
  { dtype, maxShardBytes = MAX_SHARD_BYTES }: WriteTransformerOptions = {},
): Promise<void> {
  const typeOf = (tensor: TransformerTensor) =>
    (typeof dtype === "string" ? dtype : dtype?.get(tensor.name)) ?? tensor.dtype;
  const bytesOf = (tensor: TransformerTensor) => tensor.shape.reduce((a, b) => a * b, 1) * storageBytes[typeOf(tensor)];
  const totalBytes = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  const shards = planShards(tensors, bytesOf, maxShardBytes);
  await commitFolder(folder, async (temporary) => {
    const hashes = new Map<string, Hash>();
    const weightMap: Record<string, string> = {};
    for (const [index, shard] of shards.entries()) {
      const number = (value: number) => String(value).padStart(5, "0");
      const part = shards.length === 1 ? "" : `-${number(index + 1)}-of-${number(shards.length)}`;
      const file = `${BASE_NAME}${part}.safetensors`;
      const encoded = shard.map((tensor) => hashed(tensor, typeOf(tensor), hashes));
      await writeSafetensors(join(temporary, file), encoded, { metadata: { format: "pt" } });
      for (const { name } of shard) weightMap[name] = file;
    }
    if (shards.length > 1) {
      const index = JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: weightMap }, null, 2);
      await writeFileAtomic(join(temporary, `${BASE_NAME}.safetensors.index.json`), `${index}\n`);
    }
    await writeFileAtomic(join(temporary, "config.json"), configJson);
    await verifyWeights(temporary, configJson, hashes);
  }, { expectedBytes: totalBytes });
}

/** Fills shards in model order; a shard is closed when the next tensor would exceed the limit. */
function planShards(
  tensors: readonly TransformerTensor[],
  bytesOf: (tensor: TransformerTensor) => number,
  limit: number,
): TransformerTensor[][] {
  const shards: TransformerTensor[][] = [[]];
  let filled = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (filled > 0 && filled + bytes > limit) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(tensor);
    filled += bytes;
  }
  return shards;
}

/** Converts the pieces of a tensor and takes the hash of what is written. */
function hashed(tensor: TransformerTensor, type: StorageType, hashes: Map<string, Hash>): TensorToWrite {
  const { name, shape, dtype, data } = tensor;
  return {
    name,
    dtype: type.toUpperCase() as Dtype,
    shape,
    async *data() {
      const hash = createHash("sha256");
      hashes.set(name, hash);
      for await (const piece of data()) {
        const bytes = dtype === type ? piece : convert(name, piece, dtype, type);
        requireFinite(name, bytes, type);
        hash.update(bytes);
        yield bytes;
      }
    },
  };
}

function convert(
  name: string,
  piece: Uint8Array<ArrayBuffer>,
  from: StorageType,
  to: StorageType,
): Uint8Array<ArrayBuffer> {
  const values = decodeF32(piece, from);
  if (to === "f16") {
    const large = values.find((value) => Math.abs(value) >= 65520 && Number.isFinite(value));
    if (large !== undefined) {
      throw new UserError(`"${name}" holds ${large}, beyond the largest f16 number 65504`, "choose dtype bf16 or f32");
    }
  }
  return encodeF32(values, to);
}

async function verifyWeights(folder: string, configJson: string, hashes: ReadonlyMap<string, Hash>): Promise<void> {
  using source = openShards(folder, BASE_NAME);
  checkShapes(source, parseTransformerConfig(JSON.parse(configJson), "config.json"), `"${folder}"`);
  for (const [name, { byteLength }] of source.tensors) {
    const hash = createHash("sha256");
    for (let at = 0; at < byteLength; at += BLOCK_BYTES) {
      hash.update(source.readBytes(name, at, Math.min(at + BLOCK_BYTES, byteLength)));
      await nextTurn();
    }
    if (hash.digest("hex") === hashes.get(name)?.digest("hex")) continue;
    throw new UserError(
      `"${name}" reads back differently from what was written to "${folder}"`,
      "the disk or the memory of this machine is faulty: choose another disk and save again",
    );
  }
}
