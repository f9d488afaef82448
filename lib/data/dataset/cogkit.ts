/**
 * CogKit's layout: metadata.jsonl files, one JSON object per line.
 *
 * CogKit sorts its tables by id and joins them by position, so that one missing id shifts every later pair. Here they
 * are joined by the id itself.
 */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import type { RawPath, RawSample } from "./paths.ts";
import { readText, splitLines } from "./text_list.ts";

interface Row {
  readonly values: Record<string, unknown>;
  readonly where: string;
}

async function readRows(path: string, label: string, problems: string[]): Promise<Row[]> {
  const text = await readText(path, label, problems);
  const rows: Row[] = [];
  for (const { text: json, line } of splitLines(text ?? "")) {
    if (json === "") continue;
    const where = `${label} line ${line}`;
    let values: unknown;
    try {
      values = JSON.parse(json);
    } catch (error) {
      problems.push(`${where}: is not JSON (${error instanceof Error ? error.message : error})`);
      continue;
    }
    if (typeof values === "object" && values !== null && !Array.isArray(values)) {
      rows.push({ values: values as Record<string, unknown>, where });
    } else problems.push(`${where}: is not a JSON object`);
  }
  if (text !== undefined && rows.length === 0) problems.push(`${label}: holds no entries`);
  return rows;
}

/** A text field, or undefined with the problem reported. */
function textField(row: Row, name: string, problems: string[]): string | undefined {
  const value = row.values[name];
  if (typeof value === "string" && !value.includes("\0")) return value;
  const found = value === undefined
    ? "is missing"
    : typeof value === "string"
    ? "contains a NUL character"
    : "is not text";
  problems.push(`${row.where}: "${name}" ${found}`);
}

/** Rows by their id; a repeated or missing id is a problem. */
function byId(rows: Row[], problems: string[]): Map<string, Row> {
  const map = new Map<string, Row>();
  for (const row of rows) {
    const id = row.values.id;
    if (typeof id !== "string" && typeof id !== "number") problems.push(`${row.where}: "id" is not a number or text`);
    else if (map.has(String(id))) {
      problems.push(`${row.where}: id ${id} stands already in ${map.get(String(id))!.where}`);
    } else map.set(String(id), row);
  }
  return map;
}

function compareIds(a: string, b: string): number {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? (a < b ? -1 : 1) : x - y;
}

/** One table: every row names its file and its prompt. */
function readSingle(rows: Row[], base: string, problems: string[]): RawSample[] {
  return rows.flatMap((row) => {
    const entry = textField(row, "file_name", problems);
    const prompt = textField(row, "prompt", problems);
    return entry === undefined || prompt === undefined ? [] : [{ prompt, video: { entry, base, where: row.where } }];
  });
}

/** Three tables joined by id. */
async function readJoined(prompts: Row[], base: string, root: string, images: boolean, problems: string[]) {
  const table = async (kind: string) => {
    const path = join(base, kind, "metadata.jsonl");
    return {
      kind,
      label: relative(root, path),
      rows: byId(await readRows(path, relative(root, path), problems), problems),
    };
  };
  const texts = byId(prompts, problems);
  const videos = await table("videos");
  const pictures = images && existsSync(join(base, "images")) ? await table("images") : undefined;
  for (const other of pictures ? [videos, pictures] : [videos]) {
    for (const [id, row] of texts) {
      if (!other.rows.has(id)) problems.push(`${row.where}: id ${id} is not in ${other.label}`);
    }
    for (const [id, row] of other.rows) if (!texts.has(id)) problems.push(`${row.where}: id ${id} has no prompt`);
  }
  const samples: RawSample[] = [];
  for (const id of [...texts.keys()].sort(compareIds)) {
    const video = videos.rows.get(id);
    const picture = pictures?.rows.get(id);
    const prompt = textField(texts.get(id)!, "prompt", problems);
    const path = (row: Row | undefined, kind: string): RawPath | undefined => {
      const entry = row && textField(row, "file_name", problems);
      return entry === undefined ? undefined : { entry, base: join(base, kind), where: row!.where };
    };
    const videoPath = path(video, "videos");
    const imagePath = path(picture, "images");
    if (prompt === undefined || videoPath === undefined) continue;
    samples.push({ prompt, video: videoPath, ...(imagePath && { image: imagePath }) });
  }
  return samples;
}

/** Reads `train/metadata.jsonl`, or `metadata.jsonl` if the folder itself is the training split. */
export async function readCogkit(root: string, images: boolean, problems: string[]): Promise<RawSample[]> {
  const base = existsSync(join(root, "train")) ? join(root, "train") : root;
  const path = join(base, "metadata.jsonl");
  const rows = await readRows(path, relative(root, path), problems);
  return existsSync(join(base, "videos", "metadata.jsonl"))
    ? await readJoined(rows, base, root, images, problems)
    : readSingle(rows, base, problems);
}
