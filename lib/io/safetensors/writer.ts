/** Writes safetensors files. */
import { dirname } from "node:path";
import { writeFileAtomic } from "../atomic.ts";
import type { FileSink } from "../atomic.ts";
import { compareDtypes, tensorBytes } from "./dtypes.ts";
import type { Dtype } from "./dtypes.ts";
import { requireFreeBytes } from "../file_operations.ts";
import type { FileOperations } from "../file_operations.ts";
import { nextTurn } from "../hash.ts";
import { quoteName } from "./header.ts";

/** Little-endian bytes: of a whole tensor, or of consecutive pieces of one. */
export type TensorData = ArrayBufferView | (() => Iterable<ArrayBufferView> | AsyncIterable<ArrayBufferView>);

/** A tensor to be written. */
export interface TensorToWrite {
  /** Unique in the file, not `__metadata__`. */
  readonly name: string;
  /** Element type. */
  readonly dtype: Dtype;
  /** Sizes of the dimensions, the slowest first; empty for a scalar. */
  readonly shape: readonly number[];
  /** A typed array, or a function that yields pieces, called when it is the turn of this tensor. */
  readonly data: TensorData;
}

/** Options of {@linkcode writeSafetensors}. */
export interface WriteSafetensorsOptions {
  /** Entries of `__metadata__`, written in the order given. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Replaced by tests. */
  readonly operations?: FileOperations;
}

/** Pieces of 16 MiB take some 10 ms to write: between two of them timers and sockets get their turn. */
const pieceBytes = 16 << 20;

/**
 * Writes a safetensors file, byte for byte as the reference library does: tensors by descending alignment of their
 * dtype, then by name, the header padded to 8 bytes. The file appears whole or not at all.
 *
 * @returns the size of the file in bytes.
 * @throws {UserError} when the disk is full (naming the bytes wanted) or can't be written.
 * @throws {TypeError} for a duplicate or reserved name; {RangeError} when data and shape disagree.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  options: WriteSafetensorsOptions = {},
): Promise<number> {
  const sorted = [...tensors].sort((a, b) => compareDtypes(a.dtype, b.dtype) || compareNames(a.name, b.name));
  checkNames(sorted);
  const sizes = sorted.map(checkedBytes);
  const header = encodeHeader(sorted, sizes, options.metadata ?? {});
  const expectedBytes = sizes.reduce((sum, size) => sum + size, 8 + header.length);
  requireFreeBytes(dirname(path), expectedBytes);
  const { operations } = options;
  await writeFileAtomic(path, async (sink) => {
    const length = new DataView(new ArrayBuffer(8));
    length.setBigUint64(0, BigInt(header.length), true);
    sink.write(new Uint8Array(length.buffer));
    sink.write(header);
    for (const [index, tensor] of sorted.entries()) await writeTensor(sink, tensor, sizes[index]!);
  }, { expectedBytes, ...(operations && { operations }) });
  return expectedBytes;
}

function checkNames(tensors: readonly TensorToWrite[]): void {
  const seen = new Set<string>();
  for (const { name } of tensors) {
    const quoted = quoteName(name);
    if (name === "__metadata__") throw new TypeError(`Cannot name a tensor ${quoted}: the format reserves it`);
    if (!name.isWellFormed()) throw new TypeError(`Cannot name a tensor ${quoted}: it has half a surrogate pair`);
    if (seen.has(name)) throw new TypeError(`Cannot write two tensors named ${quoted}`);
    seen.add(name);
  }
}

function checkedBytes(tensor: TensorToWrite): number {
  const name = quoteName(tensor.name);
  const shape = `${tensor.dtype} [${tensor.shape.join(", ")}]`;
  const bytes = tensor.shape.every((size) => Number.isInteger(size) && size >= 0)
    ? tensorBytes(tensor.dtype, tensor.shape)
    : undefined;
  if (bytes === undefined) throw new RangeError(`Cannot write tensor ${name}: ${shape} has no size in bytes`);
  if (typeof tensor.data !== "function" && tensor.data.byteLength !== bytes) {
    throw new RangeError(
      `Cannot write tensor ${name}: ${shape} needs ${bytes} bytes, its data has ${tensor.data.byteLength}`,
    );
  }
  return bytes;
}

function encodeHeader(
  tensors: readonly TensorToWrite[],
  sizes: readonly number[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const members: string[] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let begin = 0;
  for (const [index, { name, dtype, shape }] of tensors.entries()) {
    const end = begin + sizes[index]!;
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
    begin = end;
  }
  const text = new TextEncoder().encode(`{${members.join(",")}}`);
  // Blanks to a multiple of 8 keep the data aligned for readers that map the file.
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  return padded;
}

async function writeTensor(sink: FileSink, { name, data }: TensorToWrite, bytes: number): Promise<void> {
  const start = sink.size;
  for await (const view of typeof data === "function" ? data() : [data]) {
    const piece = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    for (let at = 0; at < piece.length; at += pieceBytes) {
      sink.write(piece.subarray(at, at + pieceBytes));
      if (piece.length >= pieceBytes) await nextTurn();
    }
  }
  const written = sink.size - start;
  if (written !== bytes) {
    throw new RangeError(`Cannot write tensor ${quoteName(name)}: its shape needs ${bytes} bytes, it gave ${written}`);
  }
}

/** By code point, which is the order of UTF-8 bytes; JavaScript compares UTF-16 units. */
function compareNames(a: string, b: string): number {
  if (a === b) return 0;
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  if (i > 0 && (a.charCodeAt(i - 1) & 0xfc00) === 0xd800) i--;
  return (a.codePointAt(i) ?? -1) - (b.codePointAt(i) ?? -1);
}
