/**
 * A folder of clips, below it as deep as it goes, with captions in text files of the same name beside them, or without.
 */
import { readdirSync } from "node:fs";
import { join, parse, relative } from "node:path";
import { lockName } from "../../io/lock.ts";
import type { DatasetFormat, DatasetSource, Findings, RawSample } from "./format.ts";
import { isImageName, isMediaName, isVideoName } from "./media_names.ts";
import { readText } from "./text_list.ts";

/** Endings of caption files, in the order in which they are tried. */
const CAPTION_ENDINGS = [".txt", ".caption"];

/** Folder of encoded clips that a run makes in the dataset's. */
const CACHE_FOLDER = "cache";

/** Folder of the videos that a run makes in its own, which may be the dataset's. */
export const VALIDATION_FOLDER = "validation_res";

/**
 * All files below a folder as paths relative to `root`, in order of names. Hidden ones, links to folders, and what runs
 * have left there are not among them; folders of runs are added to `runs`.
 */
function filesBelow(root: string, runs: string[], folder: string = root): string[] {
  const entries = readdirSync(folder, { withFileTypes: true });
  const isRun = entries.some(({ name }) => name === lockName);
  if (isRun && folder !== root) {
    runs.push(relative(root, folder));
    return [];
  }
  return entries
    .filter(({ name }) => !name.startsWith("."))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (!entry.isDirectory()) return [relative(root, path)];
      const isOurs = folder === root && (entry.name === CACHE_FOLDER || (isRun && entry.name === VALIDATION_FOLDER));
      return isOurs ? [] : filesBelow(root, runs, path);
    });
}

/** The name without its ending. */
function stem(path: string): string {
  const { dir, name } = parse(path);
  return join(dir, name);
}

/** A caption as one line. */
async function readCaption(root: string, file: string, problems: string[]): Promise<string | undefined> {
  const text = await readText(join(root, file), file, problems);
  if (text?.includes("\0")) problems.push(`${file}: contains a NUL character; remove it`);
  return text?.trim().replace(/\s*\n\s*/g, " ");
}

async function readFolder({ root, options }: DatasetSource, { problems, warnings }: Findings): Promise<RawSample[]> {
  const runs: string[] = [];
  const files = filesBelow(root, runs);
  for (const run of runs) warnings.push(`${run}: is the folder of a run, and its videos are left out`);
  const known = new Set(files);
  const videos = files.filter(isVideoName);
  const stems = new Set(videos.map(stem));
  // A picture named as a clip is the clip's first frame.
  const pictures = files.filter((file) => isImageName(file) && !stems.has(stem(file)));
  const asClips = (options.frames ?? 1) === 1;
  if (!asClips && pictures.length > 0 && videos.length > 0) {
    warnings.push(
      `${pictures.length} pictures (${pictures[0]}, ...) are left out: pictures train as clips of one frame, ` +
        "with train_resolution: 1xHEIGHTxWIDTH",
    );
  }
  const clips = asClips || videos.length === 0 ? [...videos, ...pictures].sort() : videos;
  const samples: RawSample[] = [];
  for (const clip of clips) {
    const caption = CAPTION_ENDINGS.flatMap((ending) => [`${stem(clip)}${ending}`, `${clip}${ending}`])
      .find((file) => known.has(file));
    const image = isVideoName(clip) ? files.find((file) => isImageName(file) && stem(file) === stem(clip)) : undefined;
    samples.push({
      prompt: caption === undefined ? undefined : await readCaption(root, caption, problems),
      video: { entry: clip, base: root, where: clip },
      image: options.images === true && image !== undefined ? { entry: image, base: root, where: image } : undefined,
    });
  }
  if (samples.length === 0) problems.push(`${root}: holds no clips`);
  return samples;
}

/** Clips with captions beside them, or without any. */
export const captions = {
  name: "captions",
  title: "musubi-tuner, diffusion-pipe, SimpleTuner, finetrainers, or clips alone",
  example: `1.mp4
1.txt                a cat runs   (without it: --prompt or --id_token)
1.png                (optional, for image to video)
more/2.mp4
more/2.txt           a dog sleeps`,
  detect({ root, file }) {
    const found = file === undefined ? filesBelow(root, []).find(isMediaName) : undefined;
    return Promise.resolve(found);
  },
  read: readFolder,
} as const satisfies DatasetFormat;
