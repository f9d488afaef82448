/**
 * CogKit's layout: metadata.jsonl files, one JSON object per line.
 *
 * CogKit sorts its tables by id and joins them by position, so that one missing id shifts every later pair. Here they
 * are joined by the id itself.
 */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import type { DatasetFormat, DatasetSource, Findings, RawSample } from "./format.ts";
import type { RawPath } from "./paths.ts";
import { readRows, type Row, textField } from "./rows.ts";

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

/** The folder of the training split; the folder itself when it is that. */
function trainingSplit(root: string): string {
  return existsSync(join(root, "train")) ? join(root, "train") : root;
}

async function readCogkit({ root, options }: DatasetSource, { problems }: Findings): Promise<RawSample[]> {
  const base = trainingSplit(root);
  const path = join(base, "metadata.jsonl");
  const rows = await readRows(path, relative(root, path), problems);
  return await readJoined(rows, base, root, options.images === true, problems);
}

/** Prompts, clips and pictures in a table each; clips with their prompts in one table are a `table`. */
export const cogkit = {
  name: "cogkit",
  title: "CogKit, image to video",
  example: `train/metadata.jsonl          {"id": 1, "prompt": "a cat runs"}
train/videos/metadata.jsonl   {"id": 1, "file_name": "1.mp4"}
train/images/metadata.jsonl   {"id": 1, "file_name": "1.png"}
train/videos/1.mp4
train/images/1.png`,
  detect({ root, file }) {
    const path = join(trainingSplit(root), "videos", "metadata.jsonl");
    return Promise.resolve(file === undefined && existsSync(path) ? relative(root, path) : undefined);
  },
  read: readCogkit,
} as const satisfies DatasetFormat;
