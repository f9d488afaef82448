/** Reads the list of samples of a dataset folder, in the original trainer's layout or in CogKit's. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { UserErrors } from "../../errors.ts";
import { readCogkit } from "./cogkit.ts";
import { type RawPath, type RawSample, resolveInside } from "./paths.ts";
import { type ListEntry, readTextList } from "./text_list.ts";

/** One training sample. */
export interface DatasetItem {
  /** Position in the dataset, from 0. */
  readonly index: number;
  /** Caption, identifier token included. */
  readonly prompt: string;
  /** The clip as the dataset writes it, for messages. */
  readonly name: string;
  /** Absolute path of the clip. */
  readonly videoPath: string;
  /** Absolute path of the condition picture of image-to-video; the clip's first frame is used without it. */
  readonly imagePath?: string;
}

/** Options of {@linkcode readDataset}. */
export interface DatasetOptions {
  /** List of captions ("prompts.txt"). */
  readonly captionColumn?: string;
  /** List of clips ("videos.txt"). */
  readonly videoColumn?: string;
  /** List of pictures; without it `images.txt` is used where it exists. Only read if `images` is set. */
  readonly imageColumn?: string;
  /** Whether samples have condition pictures, as image-to-video needs (false). */
  readonly images?: boolean;
  /** Put literally in front of every prompt, without a separator (""). */
  readonly idToken?: string;
  /** Accept clips outside the dataset folder (false). */
  readonly allowOutside?: boolean;
  /** `lists` is the original trainer's layout, `cogkit` has metadata.jsonl files ("auto": whichever is there). */
  readonly format?: "auto" | "lists" | "cogkit";
}

/** A dataset as its files describe it; nothing has been decoded. */
export interface Dataset {
  /** Absolute path. */
  readonly root: string;
  readonly format: "lists" | "cogkit";
  readonly items: readonly DatasetItem[];
  /** What does not stop training but deserves a look. */
  readonly warnings: readonly string[];
}

function columns(options: DatasetOptions): { caption: string; video: string; image: string } {
  const { captionColumn = "prompts.txt", videoColumn = "videos.txt", imageColumn = "images.txt" } = options;
  return { caption: captionColumn, video: videoColumn, image: imageColumn };
}

function chooseFormat(root: string, options: DatasetOptions, problems: string[]): "lists" | "cogkit" | undefined {
  const { format = "auto" } = options;
  if (format !== "auto") return format;
  const { caption, video } = columns(options);
  const lists = existsSync(join(root, caption)) || existsSync(join(root, video));
  if (lists) return "lists";
  if (["metadata.jsonl", "train/metadata.jsonl"].some((name) => existsSync(join(root, name)))) return "cogkit";
  problems.push(
    existsSync(root)
      ? `${root}: holds neither "${caption}" and "${video}" nor "train/metadata.jsonl"; is it the right folder?`
      : `${root}: no such folder`,
  );
}

/** Says which entries have no partner, by the number of lines and the first one that is alone. */
function compareCounts(
  [prompts, ...others]: readonly { readonly name: string; readonly entries: readonly ListEntry[] }[],
  problems: string[],
): void {
  if (prompts === undefined) return;
  for (const other of others) {
    const [a, b] = [prompts.entries.length, other.entries.length];
    if (a === b) continue;
    const [longer, shorter] = a > b ? [prompts, other] as const : [other, prompts] as const;
    const { line, text } = longer.entries[Math.min(a, b)]!;
    problems.push(
      `${prompts.name} has ${a} ${
        a === 1 ? "entry" : "entries"
      } and ${other.name} has ${b}: ${longer.name} line ${line} ` +
        `(${JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text)}) has no partner in ${shorter.name}`,
    );
  }
}

/** The original trainer's layout: line k of every list belongs together; paths are relative to the list. */
async function readLists(root: string, options: DatasetOptions, problems: string[]): Promise<RawSample[]> {
  const { caption, video, image } = columns(options);
  const names = [caption, video];
  const useImages = options.images === true && (options.imageColumn !== undefined || existsSync(join(root, image)));
  if (useImages) names.push(image);
  const before = problems.length;
  const lists: { name: string; entries: ListEntry[] | undefined }[] = [];
  // One after the other, so that problems come in the order of the lists.
  for (const name of names) lists.push({ name, entries: await readTextList(join(root, name), name, problems) });
  const read = lists.filter((list): list is { name: string; entries: ListEntry[] } => list.entries !== undefined);
  // With a blank line the counts differ for a reason that has been named already.
  if (problems.length === before) compareCounts(read, problems);
  const [prompts = [], videos = [], images = []] = lists.map((list) => list.entries ?? []);
  const path = (name: string, { text, line }: ListEntry): RawPath => {
    return { entry: text, base: join(root, name, ".."), where: `${name} line ${line}` };
  };
  // Clips without a prompt are resolved too, so that one pass reports everything.
  return Array.from({ length: Math.max(videos.length, images.length) }, (_, i) => ({
    prompt: prompts[i]?.text ?? "",
    ...(videos[i] !== undefined && { video: path(video, videos[i]) }),
    ...(images[i] !== undefined && { image: path(image, images[i]) }),
  }));
}

function findDuplicates(items: readonly DatasetItem[]): string[] {
  const first = new Map<string, DatasetItem>(), warnings: string[] = [];
  for (const item of items) {
    const earlier = first.get(item.videoPath);
    if (earlier === undefined) first.set(item.videoPath, item);
    else {
      const same = earlier.prompt === item.prompt ? "the same prompt" : "another prompt";
      warnings.push(
        `${item.name}: sample ${item.index + 1} repeats the clip of sample ${earlier.index + 1} with ${same}`,
      );
    }
  }
  return warnings;
}

/** Reads a dataset and returns what is wrong with it instead of throwing. */
export async function collectDataset(
  folder: string,
  options: DatasetOptions = {},
): Promise<Dataset & { readonly problems: readonly string[] }> {
  const root = resolve(folder);
  const problems: string[] = [];
  const warnings: string[] = [];
  const items: DatasetItem[] = [];
  const format = chooseFormat(root, options, problems);
  if (format === undefined) return { root, format: "lists", items, warnings, problems };
  const samples = format === "lists"
    ? await readLists(root, options, problems)
    : await readCogkit(root, options.images === true, problems);
  const { idToken = "", allowOutside = false } = options;
  for (const { prompt, video, image } of samples) {
    const find = async (path: RawPath | undefined) => path && await resolveInside(root, path, problems, allowOutside);
    const videoPath = await find(video);
    const imagePath = await find(image);
    if (video === undefined || videoPath === undefined) continue;
    const index = items.length;
    items.push({ index, prompt: idToken + prompt, name: video.entry, videoPath, ...(imagePath && { imagePath }) });
    if (prompt === "") warnings.push(`${video.entry}: has an empty prompt`);
  }
  warnings.push(...findDuplicates(items));
  return { root, format, items, warnings, problems };
}

/**
 * Reads the samples of a dataset folder. Paths must stay in the folder; lists are UTF-8 with any line ends.
 *
 * @throws {UserErrors} with every problem of the dataset at once: missing or extra entries, blank lines, missing files,
 * paths that leave the folder, text that is not UTF-8.
 */
export async function readDataset(folder: string, options: DatasetOptions = {}): Promise<Dataset> {
  const { problems, ...dataset } = await collectDataset(folder, options);
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot use the dataset "${folder}"`,
      problems,
      "each line of the list of clips belongs to the same line of the list of prompts; clips lie in the dataset folder. " +
        "cogtune data check tries every clip too",
    );
  }
  return dataset;
}
