/** Large files from a web server: resumed after an interruption, retried, verified, and only then given their name. */
import type { Hash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import { UserError } from "../errors.ts";
import {
  fileError,
  type FileOperations,
  fileOperations,
  makeFolder,
  requireFreeBytes,
  statIfThere,
} from "./file_operations.ts";
import { type Checksum, nextTurn, startHash } from "./hash.ts";
import { Answer, Interruption, type RequestOptions, Retries } from "./http.ts";

/** Milliseconds between two reports of progress. */
const REPORT_INTERVAL = 250;

/** Bytes of an earlier attempt that are hashed in one go. */
const BLOCK_BYTES = 4 << 20;

/** What is known of a file before it is downloaded, and how patient the download is. */
export interface DownloadOptions extends RequestOptions {
  /** Bytes. */
  readonly size: number;
  readonly checksum: Checksum;
  /** Replaced by tests. */
  readonly operations?: FileOperations;
}

/** Where the bytes of `path` are collected until they are all there. */
export function partPath(path: string): string {
  return `${path}.part`;
}

/** Bytes of a file that an interrupted download has left. */
export function partBytes(path: string): number {
  return statIfThere(partPath(path))?.size ?? 0;
}

/**
 * Downloads a file, continuing what an earlier call left in `<path>.part`. The name `path` appears when size and hash
 * are right and the bytes are on disk, never before. One process at a time: the caller holds a lock.
 *
 * @returns the bytes that are there, a few times a second.
 * @throws {UserError} when the server refuses, fails again and again, or has another file; when the disk is full.
 */
export async function* download(url: string, path: string, options: DownloadOptions): AsyncGenerator<number> {
  const { size, checksum } = options;
  makeFolder(dirname(path));
  using part = await Part.open(path, options);
  requireFreeBytes(path, size - part.size);
  for (let continued = part.size > 0;; continued = false) {
    yield* fill(part, url, options);
    const found = part.digest();
    if (found === checksum.value) break;
    part.restart();
    // What an earlier process left may have been damaged; a second mismatch is the server's.
    if (continued) continue;
    fileOperations.remove(partPath(path));
    throw new UserError(
      `${url} is damaged or another file: its ${hashName(checksum)} is ${found}, expected ${checksum.value}`,
      "nothing was kept of it; try again, and if it happens again, the server or a proxy changes the file",
    );
  }
  part.publish();
  yield size;
}

function hashName({ algorithm }: Checksum): string {
  return algorithm === "git" ? "git object id" : "SHA-256";
}

/** Requests what the part lacks until it is complete. */
async function* fill(part: Part, url: string, options: DownloadOptions): AsyncGenerator<number> {
  const retries = new Retries(options);
  let reported = -Infinity;
  while (part.size < options.size) {
    try {
      for await (const _ of receive(part, url, options)) {
        if (performance.now() - reported < REPORT_INTERVAL) continue;
        reported = performance.now();
        yield part.size;
      }
    } catch (error) {
      await retries.after(error, part.size);
    }
  }
}

/** Makes one request and appends what it brings. */
async function* receive(part: Part, url: string, options: DownloadOptions): AsyncGenerator<void> {
  const { size } = options;
  using answer = await Answer.get(url, { ...options, range: part.size });
  const { status } = answer.response;
  const { from, total } = statedRange(answer);
  if (status === 416 || (status === 206 && from !== part.size)) {
    const failure = new Interruption(`${url}: the server cannot continue at byte ${part.size}`);
    part.restart();
    throw failure;
  }
  // A server that cannot continue sends the file from its start.
  if (status !== 206) part.restart();
  if (total !== undefined && total !== size) throw new Interruption(`${url} has ${total} bytes, expected ${size}`);
  for await (const chunk of answer.chunks()) {
    if (part.size + chunk.length > size) {
      part.restart();
      throw new Interruption(`${url} sends more than the expected ${size} bytes`);
    }
    part.append(chunk);
    yield;
  }
  if (part.size < size) throw new Interruption(`${url} ended after ${part.size} of ${size} bytes`);
}

/**
 * First byte and size of the whole file as the server states them; undefined where it does not, or counts compressed
 * bytes.
 */
function statedRange(
  { response: { status, headers }, isCompressed }: Answer,
): { readonly from: number | undefined; readonly total: number | undefined } {
  const number = (text: string | null | undefined) => /^\d+$/.test(text ?? "") ? Number(text) : undefined;
  if (status !== 206) return { from: 0, total: isCompressed ? undefined : number(headers.get("content-length")) };
  const [, from, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "") ?? [];
  return { from: number(from), total: number(total) };
}

/** The growing file and the hash of what it holds. */
class Part implements Disposable {
  readonly #descriptor: number;
  readonly #operations: FileOperations;
  #hash: Hash;
  #size = 0;

  private constructor(readonly path: string, readonly options: DownloadOptions) {
    try {
      this.#descriptor = openSync(partPath(path), "a+");
    } catch (error) {
      throw fileError(error, "write", partPath(path));
    }
    this.#operations = options.operations ?? fileOperations;
    this.#hash = this.#emptyHash();
  }

  /** Opens what an earlier process left and hashes it. */
  static async open(path: string, options: DownloadOptions): Promise<Part> {
    const part = new Part(path, options);
    const block = new Uint8Array(BLOCK_BYTES);
    for (let count = 1; count > 0 && part.#size <= options.size;) {
      count = readSync(part.#descriptor, block, 0, block.length, part.#size);
      part.#hash.update(block.subarray(0, count));
      part.#size += count;
      await nextTurn();
    }
    if (part.#size > options.size) part.restart();
    return part;
  }

  /** Bytes that are there. */
  get size(): number {
    return this.#size;
  }

  #emptyHash(): Hash {
    const { checksum: { algorithm }, size } = this.options;
    return startHash(algorithm, size);
  }

  append(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length;) at += this.#operations.write(this.#descriptor, bytes.subarray(at));
    } catch (error) {
      throw fileError(error, "write", partPath(this.path), { bytes: this.options.size - this.#size, atLeast: false });
    }
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  /** Forgets everything. */
  restart(): void {
    ftruncateSync(this.#descriptor, 0);
    this.#size = 0;
    this.#hash = this.#emptyHash();
  }

  digest(): string {
    return this.#hash.digest("hex");
  }

  /** Puts the bytes on disk and gives the file its name. */
  publish(): void {
    try {
      this.#sync();
      this.#operations.rename(partPath(this.path), this.path);
      this.#operations.syncPath(dirname(this.path));
    } catch (error) {
      throw fileError(error, "write", this.path);
    }
  }

  /** After a failed fsync the disk may lack bytes that the next attempt would still read from memory and trust. */
  #sync(): void {
    try {
      this.#operations.sync(this.#descriptor);
    } catch (error) {
      this.restart();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}
