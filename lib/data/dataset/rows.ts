/** Rows of CSV, TSV, JSON and JSON Lines files, told apart by what they hold. */
import { closeSync, openSync, readSync } from "node:fs";
import { parse } from "csv-parse/sync";
import { messageOf } from "../../errors.ts";
import { readText, splitLines } from "./text_list.ts";

/** One row, by column. */
export interface Row {
  readonly values: Readonly<Record<string, unknown>>;
  /** File and line, or number of the entry. */
  readonly where: string;
}

/** Column of the names of an object whose entries are rows. */
const NAME_COLUMN = "file_name";

/** Column of an entry that is text alone. */
const TEXT_COLUMN = "caption";

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value of a row, not one that all objects inherit. */
export function valueOf({ values }: Row, column: string): unknown {
  return Object.hasOwn(values, column) ? values[column] : undefined;
}

/** A text field of a row; undefined when it is missing or no text, with the problem reported. */
export function textField(row: Row, column: string, problems: string[]): string | undefined {
  const value = valueOf(row, column);
  if (typeof value === "string" && !value.includes("\0")) return value;
  const found = value === undefined
    ? "is missing"
    : typeof value === "string"
    ? "contains a NUL character"
    : "is not text";
  problems.push(`${row.where}: "${column}" ${found}`);
}

function parseJson(text: string, where: string, problems: string[]): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    problems.push(`${where}: is not JSON (${messageOf(error)})`);
    return undefined;
  }
}

function jsonLines(text: string, label: string, problems: string[]): Row[] {
  return splitLines(text).flatMap(({ text: json, line }) => {
    if (json === "") return [];
    const where = `${label} line ${line}`;
    const values = parseJson(json, where, problems);
    if (isObject(values)) return [{ values, where }];
    if (values !== undefined) problems.push(`${where}: is not a JSON object`);
    return [];
  });
}

/** A list of objects, or an object that gives a caption, captions or an object to each file. */
function jsonDocument(text: string, label: string, problems: string[]): Row[] {
  const json = parseJson(text, label, problems);
  if (json === undefined) return [];
  if (isObject(json)) {
    return Object.entries(json).map(([name, value]) => ({
      values: { [NAME_COLUMN]: name, ...(isObject(value) ? value : { [TEXT_COLUMN]: value }) },
      where: `${label} entry ${JSON.stringify(name)}`,
    }));
  }
  // What begins with a bracket and is JSON is a list.
  return (json as unknown[]).flatMap((values, i) => {
    const where = `${label} entry ${i + 1}`;
    if (isObject(values)) return [{ values, where }];
    problems.push(`${where}: is not a JSON object`);
    return [];
  });
}

function csvRows(text: string, label: string, problems: string[]): Row[] {
  const [header = ""] = text.split(/\r?\n/, 1);
  try {
    const records: { readonly record: Row["values"]; readonly info: { readonly lines: number } }[] = parse(text, {
      columns: true,
      delimiter: header.includes("\t") ? "\t" : ",",
      info: true,
      skip_empty_lines: true,
      skip_records_with_error: true,
      on_skip: (error) => void problems.push(`${label}: ${error?.message ?? "a line could not be read"}`),
    });
    return records.map(({ record, info: { lines } }) => ({ values: record, where: `${label} line ${lines}` }));
  } catch (error) {
    problems.push(`${label}: ${messageOf(error)}`);
    return [];
  }
}

/** The first 64 KiB of a file as text: enough to tell what it is. */
export function headOf(path: string): string {
  const bytes = new Uint8Array(1 << 16);
  const file = openSync(path, "r");
  try {
    return new TextDecoder().decode(bytes.subarray(0, readSync(file, bytes)));
  } finally {
    closeSync(file);
  }
}

/** Whether the first character says that a text is not CSV. */
export function isJson(text: string): boolean {
  return /^\s*[[{]/.test(text);
}

/** Whether JSON text holds an object per line. */
function hasLines(path: string, text: string): boolean {
  return path.endsWith(".jsonl") || /^\s*\{.*\}\s*\n\s*\{/.test(text);
}

/** Reads all rows; whatever is no row is a problem with its place. */
export async function readRows(path: string, label: string, problems: string[]): Promise<Row[]> {
  const before = problems.length;
  const text = await readText(path, label, problems) ?? "";
  const read = hasLines(path, text) ? jsonLines : isJson(text) ? jsonDocument : csvRows;
  const rows = read(text, label, problems);
  if (rows.length === 0 && problems.length === before) problems.push(`${label}: holds no entries`);
  return rows;
}
