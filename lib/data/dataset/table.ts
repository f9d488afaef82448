/** A table with a row per clip: CSV, JSON or JSON Lines with the column names of other trainers. */
import { readdirSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { statIfThere } from "../../io/file_operations.ts";
import type { DatasetFormat, DatasetSource, Findings, RawSample } from "./format.ts";
import { isMediaName } from "./media_names.ts";
import type { RawPath } from "./paths.ts";
import { headOf, isJson, readRows, type Row, textField, valueOf } from "./rows.ts";

/** Columns that name the clip, the more telling first. */
const VIDEO_COLUMNS = [
  ...["video_path", "video_file", "video", "videos", "file_name", "file_path", "filename", "media_path", "media"],
  ...["clip_path", "clip", "path", "file", "filepath", "video_name"],
];

/** Columns that name a picture: the condition of a clip, or in a table without clips the sample itself. */
const IMAGE_COLUMNS = ["image_path", "image_file", "first_frame", "first_frame_path", "image"];

/** Columns that hold the prompt. */
const CAPTION_COLUMNS = [
  ...["caption", "prompt", "text", "captions", "prompts", "description", "txt", "short_caption", "long_caption"],
  ...["short_prompt", "long_prompt"],
];

const TABLE_NAME = /\.(csv|tsv|json|jsonl)$/i;

/** Whether a file is a table whose columns, or whose names of entries, name clips. */
function isClipTable(path: string, videoColumn: string | undefined): boolean {
  const head = headOf(path);
  const columns = [...VIDEO_COLUMNS, ...IMAGE_COLUMNS, ...(videoColumn === undefined ? [] : [videoColumn])];
  if (isJson(head)) {
    return [...head.matchAll(/"([^"\\]+)"\s*:/g)].some(([, key]) => columns.includes(key!) || isMediaName(key!));
  }
  const [header = ""] = head.split(/\r?\n/, 1);
  return header.split(/[,\t]/).some((name) => columns.includes(name.trim().replace(/^"(.*)"$/, "$1")));
}

/** The tables of a source: the file that was named, else those of the folder, else those of its training split. */
function tablesOf({ root, file, options }: DatasetSource): string[] {
  const column = namedColumn(options.videoColumn);
  if (file !== undefined) return TABLE_NAME.test(file) && isClipTable(file, column) ? [file] : [];
  for (const folder of [root, join(root, "train")]) {
    if (statIfThere(folder)?.isDirectory() !== true) continue;
    const entries = readdirSync(folder, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isFile() && TABLE_NAME.test(entry.name)).map(({ name }) => name);
    const tables = names.sort().map((name) => join(folder, name)).filter((path) => isClipTable(path, column));
    if (tables.length > 0) return tables;
  }
  return [];
}

/** The column that a setting names; names of list files are none. */
function namedColumn(setting: string | undefined): string | undefined {
  return setting === undefined || setting.endsWith(".txt") ? undefined : setting;
}

/** The first of these columns that any row has. */
function findColumn(rows: readonly Row[], named: string | undefined, known: readonly string[]): string | undefined {
  const candidates = named === undefined ? known : [named];
  return candidates.find((column) => rows.some((row) => valueOf(row, column) !== undefined));
}

async function readTable(source: DatasetSource, { problems, warnings }: Findings): Promise<RawSample[]> {
  const { root, file, options } = source;
  const [path, ...others] = file === undefined ? tablesOf(source) : [file];
  if (path === undefined) {
    problems.push(`${root}: holds no CSV, JSON or JSON Lines file with a column of clips`);
    return [];
  }
  if (others.length > 0) {
    const names = [path, ...others].map((each) => relative(root, each));
    problems.push(`${root}: holds several tables (${names.join(", ")}); name one: --data_root ${path}`);
    return [];
  }
  const label = relative(root, path);
  const rows = await readRows(path, label, problems);
  if (rows.length === 0) return [];
  const videoColumn = findColumn(rows, namedColumn(options.videoColumn), VIDEO_COLUMNS);
  const imageColumn = findColumn(rows, namedColumn(options.imageColumn), IMAGE_COLUMNS);
  const clipColumn = videoColumn ?? imageColumn;
  const captionColumn = findColumn(rows, namedColumn(options.captionColumn), CAPTION_COLUMNS);
  if (clipColumn === undefined) {
    const found = [...new Set(rows.flatMap(({ values }) => Object.keys(values)))].slice(0, 12).join(", ");
    problems.push(
      `${label}: has no column of clips (its columns are ${found}); name it with --video_column, or call it video`,
    );
    return [];
  }
  let several = 0;
  const samples = rows.map((row): RawSample => {
    const field = (column: string): RawPath | undefined => {
      const entry = textField(row, column, problems);
      return entry === undefined ? undefined : { entry, base: dirname(path), where: row.where };
    };
    const video = field(clipColumn);
    const caption = captionColumn === undefined ? undefined : valueOf(row, captionColumn);
    const [first, second] = Array.isArray(caption) ? caption : [caption];
    if (second !== undefined) several++;
    if (first !== undefined && typeof first !== "string") problems.push(`${row.where}: "${captionColumn}" is not text`);
    if (typeof first === "string" && first.includes("\0")) {
      problems.push(`${row.where}: "${captionColumn}" contains a NUL character`);
    }
    const hasImage = options.images === true && videoColumn !== undefined && imageColumn !== undefined;
    return {
      prompt: typeof first === "string" ? first : captionColumn === undefined ? undefined : missing(row, captionColumn),
      video,
      image: hasImage && valueOf(row, imageColumn) !== undefined ? field(imageColumn) : undefined,
    };
  });
  if (several > 0) warnings.push(`${label}: ${several} clips have several captions; the first of each is used`);
  return samples;

  /** A row without the caption that other rows have. */
  function missing(row: Row, column: string): undefined {
    if (valueOf(row, column) === undefined && options.prompt === undefined) {
      problems.push(`${row.where}: "${column}" is missing`);
    }
  }
}

/** CSV, JSON or JSON Lines. */
export const table = {
  name: "table",
  title: "finetrainers, VideoX-Fun, musubi-tuner, diffusion-pipe's captions.json, Hugging Face metadata, CogKit",
  example: `metadata.csv         file_name,text
                     clips/1.mp4,"a cat runs"
or metadata.jsonl    {"file_name": "clips/1.mp4", "prompt": "a cat runs"}
or metadata.json     [{"file_path": "clips/1.mp4", "text": "a cat runs", "type": "video"}]
or captions.json     {"clips/1.mp4": ["a cat runs"]}
clips/1.mp4`,
  detect: (source) => Promise.resolve(tablesOf(source).map((path) => basename(path)).join(", ") || undefined),
  read: readTable,
} as const satisfies DatasetFormat;
