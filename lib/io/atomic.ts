/** Writes single files that are whole at every moment, and names what a crash leaves beside them. */
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { fileError, fileOperations, requireFreeBytes } from "./file_operations.ts";
import type { FileOperations } from "./file_operations.ts";

/** Options of {@linkcode writeFileAtomic}. */
export interface AtomicWriteOptions {
  /** Bytes the file will have: checked against the free space first, and named when the disk fills up. */
  readonly expectedBytes?: number;
  /** Replaced by tests. */
  readonly operations?: FileOperations;
}

/** The growing file that a content function of {@linkcode writeFileAtomic} writes to. */
export interface FileSink {
  /** Appends all of `bytes`. */
  write(bytes: Uint8Array): void;
  /** Bytes written so far. */
  readonly size: number;
}

/**
 * Writes a file so that a crash at any moment leaves either the earlier file or the whole new one: temporary name in
 * the same folder, fsync, rename, fsync of the folder. After a failure the temporary file is gone and the earlier file
 * is untouched.
 *
 * @param content text, bytes, or a function that writes to the sink it gets.
 * @throws {UserError} when the disk is full (naming the bytes wanted), read-only, or not accessible.
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array | ((sink: FileSink) => void | Promise<void>),
  options: AtomicWriteOptions = {},
): Promise<void> {
  const operations = options.operations ?? fileOperations;
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const wanted = options.expectedBytes ?? (typeof bytes === "function" ? undefined : bytes.length);
  if (wanted !== undefined) requireFreeBytes(dirname(path), wanted);
  const temporary = temporaryName(path, "tmp");
  const sink = new Sink(operations);
  try {
    sink.open(temporary);
    if (typeof bytes === "function") await bytes(sink);
    else sink.write(bytes);
    sink.sync();
    operations.rename(temporary, path);
    operations.syncPath(dirname(path));
  } catch (error) {
    sink.abandon();
    removeQuietly(operations, temporary);
    throw fileError(error, "write", path, { bytes: wanted ?? sink.attempted, atLeast: wanted === undefined });
  }
}

/**
 * A hidden name beside `path` for something that is not what `path` names: `tmp` is unfinished, `old` is being
 * replaced, `trash` is being deleted. {@linkcode parseTemporaryName} recognises them after a crash.
 */
export function temporaryName(path: string, kind: TemporaryKind): string {
  return join(dirname(path), `.${basename(path)}.${kind}-${randomBytes(6).toString("hex")}`);
}

/** Why a temporary name exists, see {@linkcode temporaryName}. */
export type TemporaryKind = "tmp" | "old" | "trash";

/** What a file name made by {@linkcode temporaryName} stands for; undefined for every other name. */
export function parseTemporaryName(name: string): { name: string; kind: TemporaryKind } | undefined {
  const match = /^\.(.+)\.(tmp|old|trash)-[0-9a-f]{12}$/.exec(name);
  return match ? { name: match[1]!, kind: match[2] as TemporaryKind } : undefined;
}

/** Clean-up after a failure: a second failure must not hide the first, and the next start cleans again. */
export function removeQuietly(operations: FileOperations, path: string): void {
  try {
    operations.remove(path);
  } catch {
    // The first error is the one to report.
  }
}

class Sink implements FileSink {
  readonly #operations: FileOperations;
  #descriptor: number | undefined;
  #size = 0;
  /** Bytes written or at least asked to be. */
  attempted = 0;

  constructor(operations: FileOperations) {
    this.#operations = operations;
  }

  get size(): number {
    return this.#size;
  }

  open(path: string): void {
    this.#descriptor = this.#operations.create(path);
  }

  write(bytes: Uint8Array): void {
    this.attempted += bytes.length;
    for (let at = 0; at < bytes.length;) {
      // One write call takes less than 2 GiB on Linux.
      const count = this.#operations.write(this.#descriptor!, bytes.subarray(at, at + 2 ** 30));
      if (count <= 0) throw Object.assign(new Error("a write made no progress"), { code: "EIO" });
      at += count;
      this.#size += count;
    }
  }

  /** After a failed fsync the system may have dropped the data and a second fsync would lie, so there is none. */
  sync(): void {
    const descriptor = this.#descriptor!;
    this.#operations.sync(descriptor);
    this.#descriptor = undefined;
    this.#operations.close(descriptor);
  }

  abandon(): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    this.#descriptor = undefined;
    try {
      this.#operations.close(descriptor);
    } catch {
      // The first error is the one to report.
    }
  }
}
