/** The JSON header of a safetensors file, read with every rule of the format. */
import { UserError, UserErrors } from "../../errors.ts";
import { dtypeBits, isDtype, tensorBytes } from "./dtypes.ts";
import type { Dtype } from "./dtypes.ts";
import { JsonScanner } from "../json_scanner.ts";
import type { Label } from "../json_scanner.ts";

/** What a header says about one tensor. */
export interface TensorInfo {
  /** Element type. */
  readonly dtype: Dtype;
  /** Sizes of the dimensions, the slowest first; empty for a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly byteOffset: number;
  /** Bytes of the tensor. */
  readonly byteLength: number;
}

/** A checked header. */
export interface Header {
  /** The `__metadata__` entries. */
  readonly metadata: ReadonlyMap<string, string>;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** One tensor as its header entry spells it, before the rules that span entries are checked. */
interface Entry {
  readonly name: string;
  dtype: string | undefined;
  shape: readonly number[] | undefined;
  offsets: readonly number[] | undefined;
}

/** A hostile header can be wrong in a million places; nobody reads more than this many. */
const maxProblems = 20;

const DAMAGED = "the file is damaged: get it again";

/**
 * Parses the JSON text of a safetensors header and checks every rule of the format against the file it belongs to:
 * known element types, integer shapes, byte lengths that agree with shapes, and tensors that cover the data exactly,
 * with neither overlap nor hole.
 *
 * @param bytes the header text; it may end in blanks, which align the data.
 * @param dataStart where the tensor data begin in the file.
 * @param fileSize size of the whole file in bytes.
 * @param where the file, for messages.
 * @throws {UserError} naming the tensor and what is wrong; several problems at once where that is possible.
 */
export function parseHeader(bytes: Uint8Array, dataStart: number, fileSize: number, where: string): Header {
  if (bytes[0] !== 0x7b) throw new UserError(`${where}: the header does not begin with "{"`, DAMAGED);
  let text: string;
  try {
    // A byte order mark must not vanish, nor a bad byte turn into U+FFFD.
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new UserError(`${where}: the header is not UTF-8 text`, DAMAGED);
  }
  const metadata = new Map<string, string>();
  const entries: Entry[] = [];
  const scanner = new JsonScanner(text, where);
  scanner.object("the header", (name) => {
    if (name === "__metadata__") readMetadata(scanner, metadata);
    else entries.push(readEntry(scanner, name));
  });
  scanner.end();
  return { metadata, tensors: checkEntries(entries, dataStart, fileSize - dataStart, where) };
}

/** A tensor name as messages print it: quoted, control characters escaped, never a megabyte long. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 97)}...` : name);
}

function readMetadata(scanner: JsonScanner, metadata: Map<string, string>): void {
  // The reference library takes null for "no metadata".
  if (scanner.nothing()) return;
  scanner.object("__metadata__", (key) => {
    metadata.set(key, scanner.string(`__metadata__ entry ${quoteName(key)}`));
  });
}

function readEntry(scanner: JsonScanner, name: string): Entry {
  // Labels are functions: a header may have a million entries and usually none is wrong.
  const what = () => quoteName(name);
  const entry: Entry = { name, dtype: undefined, shape: undefined, offsets: undefined };
  scanner.object(what, (field) => {
    if (field === "dtype") entry.dtype = scanner.string(() => `dtype of ${what()}`);
    else if (field === "shape") entry.shape = readIntegers(scanner, () => `shape of ${what()}`);
    else if (field === "data_offsets") entry.offsets = readIntegers(scanner, () => `data_offsets of ${what()}`);
    // The reference library ignores fields it does not know.
    else scanner.skip(() => `field ${quoteName(field)} of ${what()}`);
  });
  return entry;
}

function readIntegers(scanner: JsonScanner, what: Label): number[] {
  const numbers: number[] = [];
  scanner.array(what, () => numbers.push(scanner.integer(what)));
  return numbers;
}

function checkEntries(entries: Entry[], dataStart: number, dataLength: number, where: string): Map<string, TensorInfo> {
  const problems: string[] = [];
  const spans: { name: string; begin: number; end: number; info: TensorInfo }[] = [];
  for (const entry of entries) {
    const checked = checkEntry(entry, dataLength);
    if (typeof checked === "string") problems.push(`tensor ${quoteName(entry.name)}: ${checked}`);
    else {
      const { dtype, shape, begin, end } = checked;
      const info = { dtype, shape, byteOffset: dataStart + begin, byteLength: end - begin };
      spans.push({ name: entry.name, begin, end, info });
    }
    if (problems.length > maxProblems) break;
  }
  // Where tensors touch can only be judged when all of them are sound.
  if (problems.length === 0) {
    spans.sort((a, b) => a.begin - b.begin || a.end - b.end);
    let end = 0;
    let last: string | undefined;
    for (const span of spans) {
      if (span.begin !== end) {
        const name = `tensor ${quoteName(span.name)}`;
        const inside = last === undefined ? "the start" : `tensor ${quoteName(last)}`;
        if (span.begin < end) problems.push(`${name} begins at byte ${span.begin}, inside ${inside}`);
        else problems.push(`${span.begin - end} bytes before ${name} belong to no tensor`);
        if (problems.length > maxProblems) break;
      }
      end = Math.max(end, span.end);
      last = span.name;
    }
    if (problems.length === 0 && end !== dataLength) {
      problems.push(`${dataLength - end} bytes after the last tensor belong to no tensor`);
    }
  }
  if (problems.length > maxProblems) problems.splice(maxProblems, Infinity, "and more of the kind");
  if (problems.length > 0) {
    throw new UserErrors(`${where} is not a valid safetensors file`, problems, DAMAGED);
  }
  return new Map(spans.map(({ name, info }) => [name, info]));
}

/** The parts of a sound entry, or what is wrong with it. */
function checkEntry(
  { dtype, shape, offsets }: Entry,
  dataLength: number,
): { readonly dtype: Dtype; readonly shape: readonly number[]; readonly begin: number; readonly end: number } | string {
  const missing = Object.entries({ dtype, shape, data_offsets: offsets }).filter(([, value]) => value === undefined);
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return `has no ${missing.map(([field]) => field).join(", no ")}`;
  }
  if (!isDtype(dtype)) {
    return `unknown dtype ${quoteName(dtype)}; known are ${Object.keys(dtypeBits).join(", ")}`;
  }
  if (offsets.length !== 2) return `data_offsets has ${offsets.length} numbers instead of 2`;
  const [begin, end] = offsets as [number, number];
  if (begin > end) return `data_offsets begin at ${begin}, after their end ${end}`;
  if (end > dataLength) return `ends at byte ${end} of the data, but the file holds only ${dataLength}`;
  const expected = tensorBytes(dtype, shape);
  const size = `dtype ${dtype} and shape [${shape.slice(0, 16).join(", ")}${shape.length > 16 ? ", ..." : ""}]`;
  if (expected === undefined) return `${size} give no representable number of bytes`;
  if (expected !== end - begin) return `${size} need ${expected} bytes, data_offsets span ${end - begin}`;
  return { dtype, shape, begin, end };
}
