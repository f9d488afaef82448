/** The original trainer's layout: line k of every list belongs together; paths are relative to their list. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { DatasetFormat, DatasetSource, Findings, RawSample } from "./format.ts";
import type { RawPath } from "./paths.ts";
import { type ListEntry, readTextList } from "./text_list.ts";

/** Names of each list; finetrainers takes them all. */
const NAMES = {
  caption: ["prompts.txt", "prompt.txt", "captions.txt", "caption.txt"],
  video: ["videos.txt", "video.txt"],
  image: ["images.txt", "image.txt"],
} as const;

/** The list of a kind: the one that was named, else the first usual name that exists, else the original's name. */
function listName(root: string, kind: keyof typeof NAMES, named: string | undefined): string {
  const [usual] = NAMES[kind];
  if (named !== undefined && named !== usual) return named;
  return NAMES[kind].find((name) => existsSync(join(root, name))) ?? usual;
}

function listNames({ root, options }: DatasetSource): { readonly caption: string; readonly video: string } {
  return {
    caption: listName(root, "caption", options.captionColumn),
    video: listName(root, "video", options.videoColumn),
  };
}

interface List {
  readonly name: string;
  readonly entries: readonly ListEntry[];
}

/** Says which entries have no partner, by the number of lines and the first one that is alone. */
function compareCounts([prompts, ...others]: readonly List[], problems: string[]): void {
  if (prompts === undefined) return;
  for (const other of others) {
    const [a, b] = [prompts.entries.length, other.entries.length];
    if (a === b) continue;
    const [longer, shorter] = a > b ? [prompts, other] as const : [other, prompts] as const;
    const { line, text } = longer.entries[Math.min(a, b)]!;
    const shown = JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
    problems.push(
      `${prompts.name} has ${a} ${a === 1 ? "entry" : "entries"} and ${other.name} has ${b}: ` +
        `${longer.name} line ${line} (${shown}) has no partner in ${shorter.name}`,
    );
  }
}

async function readLists(source: DatasetSource, { problems }: Findings): Promise<RawSample[]> {
  const { root, options } = source;
  const { caption, video } = listNames(source);
  const image = listName(root, "image", options.imageColumn);
  const useImages = options.images === true && (options.imageColumn !== undefined || existsSync(join(root, image)));
  const before = problems.length;
  const lists: { readonly name: string; readonly entries: readonly ListEntry[] | undefined }[] = [];
  // One after the other, so that problems come in the order of the lists.
  for (const name of useImages ? [caption, video, image] : [caption, video]) {
    lists.push({ name, entries: await readTextList(join(root, name), name, problems) });
  }
  // With a blank line the counts differ for a reason that has been named already.
  if (problems.length === before) {
    compareCounts(lists.filter((list): list is List => list.entries !== undefined), problems);
  }
  const [prompts = [], videos = [], images = []] = lists.map((list) => list.entries ?? []);
  const path = (name: string, entry: ListEntry | undefined): RawPath | undefined =>
    entry && { entry: entry.text, base: join(root, name, ".."), where: `${name} line ${entry.line}` };
  // Clips without a prompt are resolved too, so that one pass reports everything.
  return Array.from({ length: Math.max(videos.length, images.length) }, (_, i) => ({
    prompt: prompts[i]?.text ?? "",
    video: path(video, videos[i]),
    image: path(image, images[i]),
  }));
}

/** `prompts.txt` and `videos.txt`. */
export const lists = {
  name: "lists",
  title: "The original trainer, finetrainers",
  example: `prompts.txt          a cat runs
videos.txt           videos/1.mp4
images.txt           images/1.png   (optional, for image to video)
videos/1.mp4
images/1.png`,
  detect(source) {
    const { caption, video } = listNames(source);
    const found = [caption, video].filter((name) => existsSync(join(source.root, name)));
    // One of the original's own names is enough, so that the other is reported as missing.
    const isClear = found.length === 2 || found.includes(NAMES.caption[0]) || found.includes(NAMES.video[0]);
    return Promise.resolve(source.file === undefined && isClear ? found.join(" and ") : undefined);
  },
  read: readLists,
} as const satisfies DatasetFormat;
