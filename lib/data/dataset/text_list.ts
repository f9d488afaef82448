/** Reads list files: one entry per line, checked before anything is paired with it. */
import { causeOf } from "../../io/file_operations.ts";

/** One entry and where it stands. */
export interface ListEntry {
  readonly text: string;
  /** Line number from 1. */
  readonly line: number;
}

/** What Python's `str.strip` removes, so that entries equal the original trainer's. */
const WHITE_SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const ENDS = new RegExp(`^${WHITE_SPACE}+|${WHITE_SPACE}+$`, "g");

/** A million clips with long captions; a file beyond it would fill the memory. */
const MAX_BYTES = 1 << 30;

function describeBadBytes(bytes: Uint8Array): string {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) return "is UTF-16 text";
  for (let line = 1, start = 0;; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    const row = bytes.subarray(start, end);
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(row);
    } catch {
      const [before] = new TextDecoder("utf-8", { ignoreBOM: true }).decode(row).split("\ufffd");
      const at = new TextEncoder().encode(before).length;
      const byte = row[at]!.toString(16).padStart(2, "0");
      return `line ${line} is not UTF-8 (byte 0x${byte} at byte ${at + 1} of the line)`;
    }
    start = end + 1;
  }
}

/**
 * Reads a text file as UTF-8. A byte order mark is dropped.
 *
 * @returns undefined if it cannot be read; `problems` says why.
 */
export async function readText(path: string, label: string, problems: string[]): Promise<string | undefined> {
  let bytes: Uint8Array;
  try {
    const { isFile, isDirectory, size } = await Deno.stat(path);
    // Opening a pipe would wait for a writer for ever.
    if (!isFile || size > MAX_BYTES) {
      problems.push(
        isFile
          ? `${label}: has ${size} bytes, more than a list or table of clips can have (${MAX_BYTES})`
          : `${label}: is ${isDirectory ? "a folder" : "not a regular file"}, expected a file`,
      );
      return undefined;
    }
    bytes = await Deno.readFile(path);
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound;
    problems.push(
      `${label}: ${missing ? "no such file" : `cannot be read (${causeOf(error).reason})`}`,
    );
    return undefined;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    problems.push(`${label}: ${describeBadBytes(bytes)}, expected UTF-8: save the file as UTF-8`);
    return undefined;
  }
}

/** Splits at `\n`, `\r\n` and `\r`, and strips white space from both ends of every line. */
export function splitLines(text: string): ListEntry[] {
  return text.split(/\r\n|\r|\n/).map((line, i) => ({ text: line.replace(ENDS, ""), line: i + 1 }));
}

/**
 * Reads a list file. Blank lines at the end mean nothing; one before an entry is a problem, because entries of several
 * lists belong together by their line and dropping it would shift all pairs after it.
 *
 * @returns Entries that are not blank; undefined if the file cannot be read. `problems` receives everything that is
 * wrong.
 */
export async function readTextList(path: string, label: string, problems: string[]): Promise<ListEntry[] | undefined> {
  const text = await readText(path, label, problems);
  if (text === undefined) return undefined;
  const lines = splitLines(text);
  const last = lines.findLastIndex((entry) => entry.text !== "");
  for (const entry of lines.slice(0, last + 1)) {
    if (entry.text === "") {
      problems.push(
        `${label} line ${entry.line}: is blank; delete the line or fill it in, as lines of all lists are paired`,
      );
    }
    if (entry.text.includes("\0")) problems.push(`${label} line ${entry.line}: contains a NUL character; remove it`);
  }
  if (last < 0) problems.push(`${label}: holds no entries`);
  return lines.filter((entry) => entry.text !== "");
}
