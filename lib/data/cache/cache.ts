/**
 * Keeps encoded clips, pictures and prompts between runs, by content: an entry's name is the hash of everything that
 * determines it, so there is nothing to invalidate by hand and two runs can share a folder.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { removeQuietly } from "../../io/atomic.ts";
import { fileOperations, makeFolder, statIfThere } from "../../io/file_operations.ts";
import { findNonFinite } from "../../io/safetensors/finite.ts";
import { openSafetensors } from "../../io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../io/safetensors/writer.ts";
import { CACHE_VERSION, cacheKey, type CacheKind, type CacheRequest } from "./key.ts";

/** Content of an entry. */
export interface CachedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** Name of the tensor inside an entry. */
const TENSOR_NAMES: Readonly<Record<CacheKind, string>> = {
  latent: "posterior",
  image: "posterior",
  prompt: "embedding",
};

/** Number of axes an entry of each kind has. */
const RANKS: Readonly<Record<CacheKind, number>> = { latent: 4, image: 4, prompt: 2 };

/** The last use of an entry is noted no more often than this. */
const TOUCH_SECONDS = 3600;

function payloadHash({ shape, data }: CachedTensor): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return createHash("sha256").update(JSON.stringify(shape)).update(bytes).digest("hex");
}

function secondsSince(time: Date): number {
  return (Date.now() - time.getTime()) / 1000;
}

/** A folder of entries, one small safetensors file each. */
export class SampleCache {
  readonly folder: string;
  /** Entries found damaged and dropped since this object was made, with the reason. */
  readonly damaged: { readonly path: string; readonly reason: string }[] = [];

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Where the entry of a key lies, whether it exists or not. */
  pathOf(kind: CacheKind, key: string): string {
    return join(this.folder, kind, `${key}.safetensors`);
  }

  /**
   * Reads an entry and verifies it. A damaged one is removed, noted in {@linkcode SampleCache.damaged} and treated as
   * absent, so that it is built again and never used.
   */
  read(request: CacheRequest): CachedTensor | undefined {
    const key = cacheKey(request);
    const path = this.pathOf(request.kind, key);
    const info = statIfThere(path);
    if (info === undefined) return undefined;
    try {
      const tensor = this.#readVerified(request, key, path);
      if (secondsSince(info.mtime) > TOUCH_SECONDS) this.#touch(path);
      return tensor;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.damaged.push({ path, reason: error.summary });
      removeQuietly(fileOperations, path);
      return undefined;
    }
  }

  #readVerified({ kind, shape }: CacheRequest, key: string, path: string): CachedTensor {
    using file = openSafetensors(path);
    const { metadata, tensors } = file;
    const name = TENSOR_NAMES[kind];
    const info = tensors.get(name);
    if (metadata.get("key") !== key || metadata.get("version") !== `${CACHE_VERSION}`) {
      throw new UserError(`${path}: belongs to another key or version`);
    }
    if (tensors.size !== 1 || info === undefined || info.dtype !== "F32" || info.shape.length !== RANKS[kind]) {
      throw new UserError(`${path}: does not hold one f32 tensor "${name}" with ${RANKS[kind]} axes`);
    }
    if (shape !== undefined && `${info.shape}` !== `${shape}`) {
      throw new UserError(`${path}: has shape [${info.shape.join(", ")}], expected [${shape.join(", ")}]`);
    }
    const tensor = { shape: [...info.shape], data: file.readF32(name) };
    if (payloadHash(tensor) !== metadata.get("sha256")) {
      throw new UserError(`${path}: content does not match its SHA-256`);
    }
    return tensor;
  }

  /** Notes the use of an entry for {@linkcode collectGarbage}; a read-only cache does without. */
  #touch(path: string): void {
    try {
      const now = new Date();
      utimesSync(path, now, now);
    } catch {
      // Only garbage collection would have used the time, and it cannot remove anything here either.
    }
  }

  /**
   * Stores an entry. Its file appears whole or not at all; a second process storing the same entry stores the same
   * bytes.
   *
   * @throws {RangeError} if the shape does not fit the kind or the data.
   * @throws {UserError} if a value is NaN or infinite (naming the sample), or the disk is full.
   */
  async write(request: CacheRequest, tensor: CachedTensor): Promise<void> {
    const { kind, name, fields } = request;
    const { shape, data } = tensor;
    if (shape.length !== RANKS[kind] || shape.reduce((a, b) => a * b, 1) !== data.length) {
      throw new RangeError(`Cannot store the ${kind} of "${name}" as [${shape.join(", ")}] with ${data.length} values`);
    }
    const bad = findNonFinite(data, "f32");
    if (bad >= 0) {
      throw new UserError(
        `The ${kind} of "${name}" has the value ${data[bad]} at position ${bad} of [${shape.join(", ")}]: not stored`,
        "the encoder overflowed: run it in a wider type (f32), and check that its weights are intact",
      );
    }
    const key = cacheKey(request);
    makeFolder(join(this.folder, kind));
    await writeSafetensors(this.pathOf(kind, key), [{ name: TENSOR_NAMES[kind], dtype: "F32", shape, data }], {
      metadata: {
        version: `${CACHE_VERSION}`,
        key,
        kind,
        name,
        fields: JSON.stringify(fields),
        sha256: payloadHash(tensor),
      },
    });
  }

  /** What an entry was made from, as its file says; undefined if the file is gone or damaged. */
  describe(kind: CacheKind, key: string): CacheRequest | undefined {
    try {
      using file = openSafetensors(this.pathOf(kind, key));
      const name = file.metadata.get("name");
      const fields = file.metadata.get("fields");
      return name === undefined || fields === undefined
        ? undefined
        : { kind, name, fields: Object(JSON.parse(fields)) };
    } catch {
      return undefined;
    }
  }

  /** Keys of all entries of a kind, damaged ones included. */
  keys(kind: CacheKind): string[] {
    const folder = join(this.folder, kind);
    if (!existsSync(folder)) return [];
    return readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.safetensors$/.test(name)).map((name) =>
      name.slice(0, 64)
    );
  }
}
