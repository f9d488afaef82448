/** Reads the list of samples of a dataset, in whichever format it is laid out. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, extname, relative, resolve } from "node:path";
import { UserErrors } from "../../errors.ts";
import { fileError } from "../../io/file_operations.ts";
import type { DatasetFormat, DatasetOptions, DatasetSource, Findings, RawSample } from "./format.ts";
import { FORMATS } from "./formats.ts";
import { isOutside, type RawPath, resolveInside } from "./paths.ts";

/** One training sample. */
export interface DatasetItem {
  /** Position in the dataset, from 0. */
  readonly index: number;
  /** Caption, identifier token included. */
  readonly prompt: string;
  /** The clip's path in the dataset folder, for messages. */
  readonly name: string;
  /** Absolute path of the clip. */
  readonly videoPath: string;
  /** Absolute path of the condition picture of image-to-video; the clip's first frame is used without it. */
  readonly imagePath?: string;
}

/** A dataset as its files describe it; nothing has been decoded. */
export interface Dataset {
  /** Absolute path of its folder. */
  readonly root: string;
  /** Name of its format, undefined when none fits. */
  readonly format: string | undefined;
  readonly items: readonly DatasetItem[];
  /** What does not stop training but deserves a look. */
  readonly warnings: readonly string[];
}

/** What a folder holds, as "3 folders, 12 .jpg, 1 .parquet". */
function describeFolder(root: string): string {
  const counts = new Map<string, number>();
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    const kind = entry.isDirectory() ? "folders" : extname(entry.name) || "files without an ending";
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const sorted = [...counts].sort(([, a], [, b]) => b - a).slice(0, 4);
  return sorted.map(([kind, count]) => `${count} ${kind}`).join(", ") || "nothing";
}

/** Chooses the format that was asked for, or the first that recognises the source. */
async function chooseFormat(
  source: DatasetSource,
  formats: readonly DatasetFormat[],
  own: Pick<Findings, "problems" | "warnings">,
): Promise<DatasetFormat | undefined> {
  const { root, file, options: { format = "auto" } } = source;
  if (!existsSync(root)) return void own.problems.push(`${root}: no such folder`);
  if (format !== "auto") return formats.find(({ name }) => name === format);
  const found: { readonly format: DatasetFormat; readonly by: string }[] = [];
  for (const format of formats) {
    const by = await format.detect(source);
    if (by !== undefined) found.push({ format, by });
  }
  const [chosen, ...others] = found;
  if (chosen === undefined) {
    own.problems.push(
      file === undefined
        ? `${root}: holds ${
          describeFolder(root)
        } but neither clips nor a list or table of clips; is it the right folder?`
        : `${file}: is neither a table of clips nor a list of datasets`,
    );
    return;
  }
  // Clips lie beside every list and table, so that they alone say nothing.
  const rivals = others.filter(({ format }) => format !== formats.at(-1));
  if (rivals.length > 0) {
    const list = rivals.map(({ format, by }) => `${format.name} (${by})`).join(", ");
    own.warnings.push(
      `read as ${chosen.format.name} (${chosen.by}); it could also be ${list}: --dataset_format chooses`,
    );
  }
  return chosen.format;
}

async function readSource(
  source: DatasetSource,
  formats: readonly DatasetFormat[],
  own: Pick<Findings, "problems" | "warnings">,
): Promise<{ readonly format: string | undefined; readonly samples: readonly RawSample[] }> {
  const format = await chooseFormat(source, formats, own);
  if (format === undefined) return { format: undefined, samples: [] };
  // A format that reads others does not come among them again, or one could name itself.
  const inner = formats.filter((each) => each !== format);
  const read: Findings["read"] = async (other, findings) => (await readSource(other, inner, findings)).samples;
  return { format: format.name, samples: await format.read(source, { ...own, read }) };
}

/** What tells a file apart whatever it is called: by a link, or on a disk that takes `a` and `A` for one letter. */
function identityOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined || stat.ino === 0n ? path : `${stat.dev}:${stat.ino}`;
}

function findDuplicates(items: readonly DatasetItem[]): string[] {
  const first = new Map<string, DatasetItem>();
  return items.flatMap((item) => {
    const identity = identityOf(item.videoPath);
    const earlier = first.get(identity);
    if (earlier === undefined) {
      first.set(identity, item);
      return [];
    }
    const same = earlier.prompt === item.prompt ? "the same prompt" : "another prompt";
    return [`${item.name}: sample ${item.index + 1} repeats the clip of sample ${earlier.index + 1} with ${same}`];
  });
}

/** Says how to give prompts to clips that have none. */
function withoutPrompts(names: readonly string[]): string[] {
  const [first] = names;
  if (first === undefined) return [];
  const which = names.length === 1 ? `${first}: has no caption` : `${names.length} clips have no caption, as ${first}`;
  return [
    `${which}; put a .txt file of the same name beside each, or give one for all: --prompt "..." or --id_token "..."`,
  ];
}

/** One line about clips whose captions are there and say nothing. */
function emptyPrompts(names: readonly string[]): string[] {
  const [first] = names;
  if (first === undefined) return [];
  return [
    names.length === 1 ? `${first}: has an empty prompt` : `${names.length} clips have an empty prompt, as ${first}`,
  ];
}

/** What `read` returns; where a folder cannot be listed, a mistake that the user can mend. */
async function readable<T>(path: string, read: () => T | Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    // The folder below it that was being listed, where the failure names one.
    throw fileError(error, "read", (error as { path?: string }).path ?? path);
  }
}

/**
 * Reads a dataset and returns what is wrong with it instead of throwing.
 *
 * @throws {UserError} when a folder cannot be listed.
 */
export async function collectDataset(
  path: string,
  options: DatasetOptions = {},
): Promise<Dataset & { readonly problems: readonly string[] }> {
  const absolute = resolve(path);
  const info = await readable(absolute, () => statSync(absolute, { throwIfNoEntry: false }));
  const isFile = info?.isFile() === true;
  const root = isFile ? dirname(absolute) : absolute;
  const problems: string[] = [];
  const warnings: string[] = [];
  const source = { root, file: isFile ? absolute : undefined, options };
  const { format, samples } = await readable(absolute, () => readSource(source, FORMATS, { problems, warnings }));
  const { idToken = "", prompt: sharedPrompt, allowOutside = false } = options;
  const find = async (written: RawPath | undefined) =>
    written && await resolveInside(root, written, problems, allowOutside);
  const items: DatasetItem[] = [];
  const again: DatasetItem[] = [];
  const unprompted: string[] = [];
  const empty: string[] = [];
  for (const { prompt: own, video, image, repeats = 1 } of samples) {
    const videoPath = await find(video);
    const imagePath = await find(image);
    if (videoPath === undefined) continue;
    const name = isOutside(root, videoPath) ? videoPath : relative(root, videoPath);
    const prompt = own ?? sharedPrompt ?? "";
    if (own === undefined && prompt === "" && idToken.trim() === "") unprompted.push(name);
    if (own === "") empty.push(name);
    const item = { prompt: idToken + prompt, name, videoPath, ...(imagePath && { imagePath }) };
    items.push({ ...item, index: items.length });
    for (let i = 1; i < repeats; i++) again.push({ ...item, index: 0 });
  }
  problems.push(...withoutPrompts(unprompted));
  warnings.push(...emptyPrompts(empty), ...findDuplicates(items));
  const repeated = again.map((item, i) => ({ ...item, index: items.length + i }));
  return { root, format, items: [...items, ...repeated], warnings, problems };
}

/**
 * Reads the samples of a dataset: a folder in any of {@linkcode FORMATS}, or the file of a table or collection. Paths
 * must stay in the folder; texts are UTF-8 with any line ends.
 *
 * @throws {UserErrors} with every problem of the dataset at once: missing or extra entries, blank lines, missing files,
 * paths that leave the folder, clips without captions, text that is not UTF-8.
 */
export async function readDataset(path: string, options: DatasetOptions = {}): Promise<Dataset> {
  const { problems, ...dataset } = await collectDataset(path, options);
  if (problems.length > 0) {
    throw new UserErrors(
      `Cannot use the dataset "${path}"`,
      problems,
      "cogtune data check --data_root FOLDER tries every clip too, and its --help shows every layout",
    );
  }
  return dataset;
}
