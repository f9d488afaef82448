/** Writes a dataset, however it is laid out, as the original trainer's lists; clips stay where they are. */
import { existsSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { UserErrors } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { makeFolder } from "../../io/file_operations.ts";
import type { DatasetItem } from "./dataset.ts";
import { isOutside } from "./paths.ts";

/** What {@linkcode writeLists} has written. */
export interface WrittenLists {
  /** Absolute paths of the lists. */
  readonly files: readonly string[];
  /** Whether the lists name clips outside their folder, which reading them has to allow. */
  readonly outside: boolean;
}

/**
 * Writes `prompts.txt`, `videos.txt` and, if every sample has a picture, `images.txt`, with paths relative to `folder`.
 *
 * @throws {UserErrors} before anything is written, if a list is there already or cannot hold a prompt or path.
 */
export async function writeLists(items: readonly DatasetItem[], folder: string): Promise<WrittenLists> {
  const root = resolve(folder);
  const hasImages = items.every(({ imagePath }) => imagePath !== undefined);
  const lists = {
    "prompts.txt": items.map(({ prompt }) => prompt.trim().replace(/\s*[\r\n]\s*/g, " ")),
    "videos.txt": items.map(({ videoPath }) => relative(root, videoPath)),
    ...(hasImages ? { "images.txt": items.map(({ imagePath }) => relative(root, imagePath!)) } : {}),
  };
  const problems = Object.entries(lists).flatMap(([name, lines]) => [
    ...(existsSync(join(root, name)) ? [`${join(root, name)} exists already`] : []),
    ...lines.flatMap((line, i) =>
      isLine(line) ? [] : [`${items[i]!.name}: ${name} cannot hold ${JSON.stringify(line)}`]
    ),
  ]);
  if (items.length === 0) problems.push("the dataset has no samples");
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot write lists into "${folder}"`,
      problems,
      "choose another folder; give clips without a caption one with --prompt, and rename files whose names a line cannot hold",
    );
  }
  makeFolder(root);
  const files = Object.keys(lists).map((name) => join(root, name));
  for (const [name, lines] of Object.entries(lists)) await writeFileAtomic(join(root, name), `${lines.join("\n")}\n`);
  return { files, outside: items.some(({ videoPath }) => isOutside(root, videoPath)) };
}

/** Whether a line of a list gives this text back. */
function isLine(text: string): boolean {
  return text !== "" && text === text.trim() && !/[\r\n\0]/.test(text);
}
