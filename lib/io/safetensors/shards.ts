/** Weights that are spread over several safetensors files with an index. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError, UserErrors } from "../../errors.ts";
import { fileError } from "../file_operations.ts";
import { JsonScanner } from "../json_scanner.ts";
import { openSafetensors } from "./safetensors.ts";
import type { SafetensorsFile, TensorSource } from "./safetensors.ts";
import { quoteName } from "./header.ts";
import type { TensorInfo } from "./header.ts";
import { findWeights } from "./weight_files.ts";

/** Lists this many missing tensors by name; a wrong folder can lack thousands. */
const maxNames = 20;

/**
 * Opens the weights of a diffusers folder: `<baseName>.safetensors`, or `<baseName>.safetensors.index.json` with the
 * shards it lists; failing these, a variant of them such as `<baseName>.fp16.safetensors`. Tensors are found where they
 * are stored, whatever the index says of them.
 *
 * @throws {UserError} naming file and tensor for everything that is missing or contradictory.
 */
export function openShards(folder: string, baseName: string): TensorSource {
  const { name, isIndex } = findWeights(folder, baseName);
  return isIndex ? openIndex(folder, name) : openSafetensors(join(folder, name));
}

function openIndex(folder: string, index: string): TensorSource {
  const weightMap = readWeightMap(join(folder, index));
  const shardNames = [...new Set(weightMap.values())].sort();
  const missing = shardNames.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) {
    throw new UserErrors(
      `"${join(folder, index)}" lists shards that are not there`,
      missing.map((name) => `"${name}" is missing`),
      "the download is not complete: get the missing files",
    );
  }
  const shards = new Map<string, SafetensorsFile>();
  try {
    for (const name of shardNames) shards.set(name, openSafetensors(join(folder, name)));
    checkUnique(join(folder, index), shards);
  } catch (error) {
    for (const shard of shards.values()) shard[Symbol.dispose]();
    throw error;
  }
  const unstored = [...weightMap.keys()].filter((name) =>
    ![...shards.values()].some(({ tensors }) => tensors.has(name))
  );
  return new Shards(folder, shards, unstored);
}

/** Tensor name to shard file name. */
function readWeightMap(path: string): Map<string, string> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw fileError(error, "read", path);
  }
  const scanner = new JsonScanner(text, `"${path}"`);
  let weightMap: Map<string, string> | undefined;
  scanner.object("the index", (key) => {
    if (key !== "weight_map") return scanner.skip(key);
    const entries = weightMap = new Map<string, string>();
    scanner.object("weight_map", (name) => {
      const shard = scanner.string(`the shard of ${quoteName(name)}`);
      // A path out of the folder would let an index read any file of the user.
      if (!/^[^/\\]+\.safetensors$/.test(shard)) {
        scanner.fail(
          `the shard ${quoteName(shard)} of ${quoteName(name)} is not the plain name of a .safetensors file`,
        );
      }
      entries.set(name, shard);
    });
  });
  scanner.end();
  if (weightMap === undefined) throw new UserError(`"${path}" has no weight_map`, "get the index file again");
  return weightMap;
}

/** Refuses a tensor that two shards hold: which of them the index means is not what every loader takes. */
function checkUnique(index: string, shards: ReadonlyMap<string, SafetensorsFile>): void {
  const owners = new Map<string, string>();
  const problems: string[] = [];
  for (const [shard, { tensors }] of shards) {
    for (const name of tensors.keys()) {
      const other = owners.get(name);
      if (other !== undefined) problems.push(`tensor ${quoteName(name)} is in "${shard}" as well as in "${other}"`);
      owners.set(name, shard);
    }
  }
  if (problems.length > maxNames) problems.splice(maxNames, Infinity, `and ${problems.length - maxNames} more`);
  if (problems.length > 0) {
    const hint = "index and shards come from different saves: get them again";
    throw new UserErrors(`"${index}" and its shards disagree`, problems, hint);
  }
}

class Shards implements TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #folder: string;
  readonly #shards: SafetensorsFile[];
  readonly #owner = new Map<string, SafetensorsFile>();

  constructor(folder: string, shards: Map<string, SafetensorsFile>, readonly unstored: readonly string[]) {
    this.#folder = folder;
    this.#shards = [...shards.values()];
    const tensors = new Map<string, TensorInfo>();
    for (const shard of this.#shards) {
      for (const [name, info] of shard.tensors) {
        tensors.set(name, info);
        this.#owner.set(name, shard);
      }
    }
    this.tensors = tensors;
  }

  readBytes(name: string, begin?: number, end?: number): Uint8Array<ArrayBuffer> {
    return this.#shard(name).readBytes(name, begin, end);
  }

  readInto(name: string, target: Uint8Array, begin?: number): void {
    this.#shard(name).readInto(name, target, begin);
  }

  readF32(name: string): Float32Array<ArrayBuffer> {
    return this.#shard(name).readF32(name);
  }

  [Symbol.dispose](): void {
    for (const shard of this.#shards) shard[Symbol.dispose]();
  }

  #shard(name: string): SafetensorsFile {
    const shard = this.#owner.get(name);
    if (shard === undefined) throw new UserError(`The weights in "${this.#folder}" have no tensor ${quoteName(name)}`);
    return shard;
  }
}
