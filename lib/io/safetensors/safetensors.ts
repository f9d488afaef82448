/** Reads tensors from safetensors files, from their place in the file when they are asked for. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { UserError } from "../../errors.ts";
import { fileError } from "../file_operations.ts";
import { decodeF32, FLOAT_DTYPES, floatType } from "./half.ts";
import { parseHeader, quoteName } from "./header.ts";
import type { TensorInfo } from "./header.ts";
import { conversion } from "./weight_files.ts";

/**
 * Longest header that is read. The reference library takes 100 MB, and so much JSON could cost 17 s of a core of an
 * EPYC and 1.1 GB; a sixth of it costs 2.5 s and 0.3 GB, and holds 150,000 tensors where the largest models have
 * thousands.
 */
const maxHeaderBytes = 2 ** 24;

/** Tensors that can be read by name, wherever they are stored. */
export interface TensorSource extends Disposable {
  /** What is stored under each name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Names that an index lists and no shard holds. */
  readonly unstored?: readonly string[];
  /** Reads bytes `begin` to `end` of a tensor, all of it by default. */
  readBytes(name: string, begin?: number, end?: number): Uint8Array<ArrayBuffer>;
  /** Fills `target` with the bytes of a tensor from `begin` on. */
  readInto(name: string, target: Uint8Array, begin?: number): void;
  /** Reads a whole floating-point tensor as float32. */
  readF32(name: string): Float32Array<ArrayBuffer>;
}

/**
 * Opens a safetensors file and checks every rule of the format before any tensor can be read. Tensor bytes are read
 * from their place in the file when asked for, so a file may be larger than memory.
 *
 * @throws {UserError} when the file is missing, is of another kind, or breaks a rule.
 */
export function openSafetensors(path: string): SafetensorsFile {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (error) {
    throw fileError(error, "open", path);
  }
  try {
    return new SafetensorsFile(path, descriptor);
  } catch (error) {
    closeSync(descriptor);
    throw fileError(error, "read", path);
  }
}

/** An open safetensors file, see {@linkcode openSafetensors}. */
export class SafetensorsFile implements TensorSource {
  /** Path the file was opened by. */
  readonly path: string;
  /** The `__metadata__` entries of the header. */
  readonly metadata: ReadonlyMap<string, string>;
  /** What is stored under each name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  #descriptor: number | undefined;
  readonly #writtenAt: bigint;

  /** Use {@linkcode openSafetensors}; the object owns `descriptor` once constructed. */
  constructor(path: string, descriptor: number) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#writtenAt = writtenAt(descriptor);
    const header = readHeader(path, descriptor);
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /**
   * Reads bytes `begin` to `end` of a tensor, all of it by default.
   *
   * @throws {UserError} when the tensor is missing or the file has shrunk; {RangeError} for a range outside it.
   */
  readBytes(name: string, begin = 0, end: number = this.#info(name).byteLength): Uint8Array<ArrayBuffer> {
    if (end < begin) throw new RangeError(`Cannot read bytes ${begin} to ${end} of tensor ${quoteName(name)}`);
    const target = new Uint8Array(end - begin);
    this.readInto(name, target, begin);
    return target;
  }

  /**
   * Fills `target` with the bytes of a tensor from `begin` on.
   *
   * @throws {UserError} when the tensor is missing or the file has shrunk; {RangeError} for a range outside it.
   */
  readInto(name: string, target: Uint8Array, begin = 0): void {
    const { byteOffset, byteLength } = this.#info(name);
    if (!Number.isInteger(begin) || begin < 0 || begin + target.length > byteLength) {
      const range = `${begin} to ${begin + target.length}`;
      throw new RangeError(`Cannot read bytes ${range} of tensor ${quoteName(name)}: it has ${byteLength}`);
    }
    if (this.#descriptor === undefined) throw new TypeError(`"${this.path}" is closed`);
    try {
      readFully(this.path, this.#descriptor, target, byteOffset + begin);
      this.#requireUnchanged(this.#descriptor);
    } catch (error) {
      throw fileError(error, "read", this.path);
    }
  }

  /**
   * Makes sure that nobody has written to the file since its header was read: half of another file would be read
   * otherwise. One that takes its name is another file, and does no harm. It costs 15 us beside a read of megabytes.
   *
   * @throws {UserError} when somebody has.
   */
  #requireUnchanged(descriptor: number): void {
    if (writtenAt(descriptor) === this.#writtenAt) return;
    throw new UserError(`"${this.path}" was changed while it was read`, "start again when nobody writes to it");
  }

  /**
   * Reads a whole floating-point tensor as float32.
   *
   * @throws {UserError} when the tensor is missing or not of a floating-point type that float32 can stand for.
   */
  readF32(name: string): Float32Array<ArrayBuffer> {
    const { dtype } = this.#info(name);
    const type = floatType(dtype);
    if (type === undefined) {
      throw new UserError(
        `"${this.path}": tensor ${quoteName(name)} has dtype ${dtype}, expected ${FLOAT_DTYPES}`,
        "use a checkpoint saved in one of these types",
      );
    }
    return decodeF32(this.readBytes(name), type);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info === undefined) throw new UserError(`"${this.path}" holds no tensor ${quoteName(name)}`);
    return info;
  }
}

/** When a file was last written to, in nanoseconds. */
function writtenAt(descriptor: number): bigint {
  return fstatSync(descriptor, { bigint: true }).mtimeNs;
}

function readHeader(path: string, descriptor: number): ReturnType<typeof parseHeader> {
  const where = `"${path}"`;
  const stat = fstatSync(descriptor);
  if (!stat.isFile()) throw new UserError(`${where} is not a file`, "give the path of a .safetensors file");
  const start = new Uint8Array(Math.min(stat.size, 64));
  readFully(path, descriptor, start, 0);
  const kind = otherFormat(start, path);
  if (kind !== undefined) throw new UserError(`${where} is not a safetensors file but ${kind.what}`, kind.hint);
  if (stat.size < 8) {
    throw new UserError(
      `${where} is not a safetensors file: it has ${stat.size} bytes`,
      "the download or copy did not finish: get it again",
    );
  }
  // Compared as a BigInt: a hostile length near 2^64 must not be rounded on its way to the check.
  const length = new DataView(start.buffer).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes) || length > BigInt(stat.size - 8)) {
    throw new UserError(
      `${where} is not a safetensors file: the header would have ${length} bytes, ` +
        `at most ${Math.min(maxHeaderBytes, stat.size - 8)} are read`,
      "the file is damaged, cut short or of another kind: get it again",
    );
  }
  const bytes = new Uint8Array(Number(length));
  readFully(path, descriptor, bytes, 8);
  return parseHeader(bytes, 8 + bytes.length, stat.size, where);
}

/** Recognises what people most often have instead; none of it has the brace that follows the header length. */
function otherFormat(start: Uint8Array, path: string): { what: string; hint: string } | undefined {
  if (start[8] === 0x7b) return undefined;
  const text = new TextDecoder("latin1").decode(start);
  if (text.startsWith("version https://git-lfs")) {
    return { what: "a Git LFS pointer", hint: "fetch the content with `git lfs pull`, or download the model again" };
  }
  if (text.startsWith("PK\x03\x04") || (start[0] === 0x80 && start[1]! <= 5)) {
    return {
      what: "a PyTorch pickle, which can run code when it is loaded",
      hint: "download the version in safetensors, or convert it, if you trust where it comes from: " +
        conversion([path], `${path.replace(/\.\w+$/, "")}.safetensors`),
    };
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(text)) {
    return { what: "a web page", hint: "the download went wrong: check the address and your login" };
  }
  return undefined;
}

function readFully(path: string, descriptor: number, target: Uint8Array, position: number): void {
  for (let at = 0; at < target.length;) {
    // One read call takes less than 2 GiB on Linux.
    const length = Math.min(target.length - at, 2 ** 30);
    const count = readSync(descriptor, target, at, length, position + at);
    if (count === 0) throw new UserError(`"${path}" became shorter while it was read`, "start again with a whole file");
    at += count;
  }
}
