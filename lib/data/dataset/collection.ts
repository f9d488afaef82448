/** A file that names several datasets, each with a number of repeats: our own, and those of four other trainers. */
import { readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parse as parseToml } from "smol-toml";
import { parse as parseYaml } from "yaml";
import { messageOf } from "../../errors.ts";
import { statIfThere } from "../../io/file_operations.ts";
import type { DatasetFormat, DatasetSource, Findings, RawSample } from "./format.ts";
import { isOutside } from "./paths.ts";
import { headOf } from "./rows.ts";
import { readText } from "./text_list.ts";

/** One dataset that a collection names. */
interface Member {
  /** Folder, or file of a table, as it is written. */
  readonly path: string;
  /** Times each sample comes in an epoch. */
  readonly repeats: number;
  /** Share of the epoch, relative to the weights of the others. */
  readonly weight?: number | undefined;
  /** Prompt of clips without one. */
  readonly prompt?: string | undefined;
  /** Whether `prompt` replaces those that clips have. */
  readonly onlyPrompt?: boolean;
  /** Put in front of each prompt. */
  readonly prefix?: string | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** How one program writes collections. */
interface Dialect {
  /** What its files look like, whatever they are called. */
  readonly looks: RegExp;
  parse(text: string): unknown;
  /** The entries of a parsed file. */
  entries(document: unknown): unknown;
  /** One entry; undefined for what is no dataset of clips, a text for what cannot be read. */
  member(entry: Json): Partial<Member> | string | undefined;
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
const textOf = (value: unknown): string | undefined => isText(value) ? value : undefined;

/** Room for some thousand datasets; the worst text of this length that was tried cost 0.4 s of a core. */
const MAX_YAML = 2 ** 17;

const DIALECTS: readonly Dialect[] = [
  {
    looks: /^\s*-\s+(path|repeats|weight):/m,
    parse(text) {
      if (text.length > MAX_YAML) throw new Error(`${text.length} bytes are more than the ${MAX_YAML} of a list`);
      return parseYaml(text, { maxAliasCount: 0 });
    },
    entries: (document) => document,
    member: ({ path, repeats, weight, prompt, prefix }) => ({
      path: path as string,
      repeats: repeats as number,
      weight: weight as number,
      prompt: textOf(prompt),
      prefix: textOf(prefix),
    }),
  },
  {
    // musubi-tuner.
    looks: /^\s*\[\[datasets\]\]/m,
    parse: parseToml,
    entries: (document) => (document as Json).datasets,
    member: ({ video_directory, video_jsonl_file, image_directory, image_jsonl_file, num_repeats }) => ({
      path: [video_directory, video_jsonl_file, image_directory, image_jsonl_file].find(isText) as string,
      repeats: num_repeats as number,
    }),
  },
  {
    // diffusion-pipe.
    looks: /^\s*\[\[directory\]\]/m,
    parse: parseToml,
    entries: (document) => (document as Json).directory,
    member: ({ path, num_repeats, caption_prefix }) => ({
      path: path as string,
      repeats: num_repeats as number,
      prefix: textOf(caption_prefix),
    }),
  },
  {
    // finetrainers, whose datasets may be a folder or the file of a table.
    looks: /"datasets"\s*:\s*\[/,
    parse: JSON.parse,
    entries: (document) => (document as Json).datasets,
    member: ({ data_root, dataset_file, id_token }) => ({
      path: [dataset_file, data_root].find(isText) as string,
      prefix: isText(id_token) ? `${id_token} ` : undefined,
    }),
  },
  {
    // SimpleTuner, whose `repeats` counts the times after the first.
    looks: /"instance_data_dir"\s*:/,
    parse: JSON.parse,
    entries: (document) => document,
    member(entry) {
      const { type = "local", disabled, disable, instance_data_dir, caption_strategy, instance_prompt, repeats } =
        entry;
      if (disabled === true || disable === true || !isText(instance_data_dir)) return undefined;
      if (type !== "local") return `is of type ${JSON.stringify(type)}: only local folders are read`;
      if (caption_strategy === "parquet" || caption_strategy === "filename") {
        return `has caption_strategy "${caption_strategy}": write the captions into .txt files beside the clips`;
      }
      return {
        path: instance_data_dir,
        repeats: (typeof repeats === "number" ? repeats : 0) + 1,
        prompt: textOf(instance_prompt),
        onlyPrompt: caption_strategy === "instanceprompt" || entry.only_instance_prompt === true,
        prefix: entry.prepend_instance_prompt === true && isText(instance_prompt) ? `${instance_prompt} ` : undefined,
      };
    },
  },
];

/** Samples of an epoch, which are listed: weights far apart ask for more than memory holds. */
const MOST_SAMPLES = 10_000_000;

const COLLECTION_NAME = /\.(ya?ml|toml|json)$/i;

function dialectOf(path: string): Dialect | undefined {
  if (!COLLECTION_NAME.test(path)) return undefined;
  const head = headOf(path);
  return DIALECTS.find(({ looks }) => looks.test(head));
}

/** The file of a source that names datasets. */
function collectionFile({ root, file }: DatasetSource): string | undefined {
  if (file !== undefined) return dialectOf(file) && file;
  if (statIfThere(root)?.isDirectory() !== true) return undefined;
  const files = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => name);
  return files.sort().map((name) => join(root, name)).find((path) => dialectOf(path) !== undefined);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

async function readMembers(path: string, label: string, problems: string[]): Promise<(Member & { where: string })[]> {
  const text = await readText(path, label, problems);
  const dialect = text === undefined ? undefined : DIALECTS.find(({ looks }) => looks.test(text));
  if (text === undefined || dialect === undefined) return [];
  let entries: unknown;
  try {
    entries = dialect.entries(dialect.parse(text));
  } catch (error) {
    problems.push(`${label}: cannot be read (${messageOf(error).split("\n")[0]})`);
    return [];
  }
  if (!Array.isArray(entries)) {
    problems.push(`${label}: holds no list of datasets`);
    return [];
  }
  const members = entries.flatMap((entry: unknown, i) => {
    const where = `${label} entry ${i + 1}`;
    const found = isObject(entry) ? dialect.member(entry) : "is not a mapping of keys";
    if (found === undefined) return [];
    if (typeof found === "string") {
      problems.push(`${where}: ${found}`);
      return [];
    }
    const { path, repeats = 1, weight } = found;
    if (!isText(path)) problems.push(`${where}: names no folder or table of clips`);
    if (!Number.isInteger(repeats) || repeats < 1 || repeats > 10_000) {
      problems.push(`${where}: its repeats are ${repeats}, expected a whole number from 1 to 10000`);
    }
    if (weight !== undefined && (!Number.isFinite(weight) || weight <= 0)) {
      problems.push(`${where}: its weight is ${weight}, expected a number above 0`);
    }
    if (weight !== undefined && found.repeats !== undefined) {
      problems.push(`${where}: has repeats and a weight; a weight says how often its clips come`);
    }
    if (`${found.prompt}${found.prefix}`.includes("\0")) problems.push(`${where}: its prompt contains a NUL character`);
    return isText(path) && Number.isInteger(repeats) ? [{ ...found, path, repeats, where }] : [];
  });
  const bare = members.find(({ weight }) => weight === undefined);
  if (bare !== undefined && members.some(({ weight }) => weight !== undefined)) {
    problems.push(`${bare.where}: has no weight, as others have; give all of them one, or none`);
  }
  return members;
}

/**
 * Repeats the samples of datasets so that each dataset has its share of the epoch. Every clip comes at least once, the
 * epoch is the shortest with that, and the clips that come once more than others are spread evenly.
 */
function mixByWeight(
  parts: readonly { readonly samples: readonly RawSample[]; readonly weight: number }[],
): RawSample[] {
  const filled = parts.filter(({ samples }) => samples.length > 0);
  const longest = Math.max(...filled.map(({ samples, weight }) => samples.length / weight));
  return filled.flatMap(({ samples, weight }) => {
    const each = weight * longest / samples.length;
    // A ratio like 3 * (1 / 3) must not lose its last sample to rounding.
    const upTo = (count: number) => Math.floor(count * each + 1e-9);
    return samples.map((sample, i) => ({ ...sample, repeats: (upTo(i + 1) - upTo(i)) * (sample.repeats ?? 1) }));
  });
}

async function readCollection(source: DatasetSource, findings: Findings): Promise<RawSample[]> {
  const { root, options } = source;
  const { problems, warnings } = findings;
  const path = collectionFile(source);
  if (path === undefined) {
    problems.push(`${source.file ?? root}: holds no list of datasets`);
    return [];
  }
  const parts: { readonly samples: RawSample[]; readonly weight: number | undefined }[] = [];
  for (
    const { path: written, where, repeats, weight, prompt, onlyPrompt, prefix } of await readMembers(
      path,
      relative(root, path),
      problems,
    )
  ) {
    const member = resolve(dirname(path), written);
    if (options.allowOutside !== true && isOutside(root, member)) {
      problems.push(`${where}: "${written}" leads out of the dataset folder; allow it with --allow_outside true`);
      continue;
    }
    const info = statIfThere(member);
    if (info === undefined) {
      problems.push(`${where}: "${written}" does not exist`);
      continue;
    }
    const own: { readonly problems: string[]; readonly warnings: string[] } = { problems: [], warnings: [] };
    const place = info.isDirectory() ? { root: member } : { root: dirname(member), file: member };
    const { captionColumn: _caption, videoColumn: _video, imageColumn: _image, format: _format, ...shared } = options;
    const read = await findings.read({ ...place, options: shared }, own);
    problems.push(...own.problems.map((problem) => `${written}: ${problem}`));
    warnings.push(...own.warnings.map((warning) => `${written}: ${warning}`));
    const samples = read.map((sample) => {
      const text = onlyPrompt === true ? prompt : sample.prompt ?? prompt;
      return {
        ...sample,
        prompt: text === undefined ? undefined : `${onlyPrompt === true ? "" : prefix ?? ""}${text}`,
        repeats: repeats * (sample.repeats ?? 1),
      };
    });
    parts.push({ samples, weight });
  }
  const weighed = parts.flatMap(({ samples, weight }) => weight === undefined ? [] : [{ samples, weight }]);
  const samples = weighed.length === parts.length && problems.length === 0
    ? mixByWeight(weighed)
    : parts.flatMap(({ samples }) => samples);
  const total = samples.reduce((sum, { repeats = 1 }) => sum + repeats, 0);
  if (total <= MOST_SAMPLES) return samples;
  problems.push(
    `${relative(root, path)}: its repeats and weights make an epoch of ${total} samples, expected at most ` +
      `${MOST_SAMPLES}; bring them closer together`,
  );
  return [];
}

/** Several datasets. */
export const collection = {
  name: "collection",
  title:
    "Several datasets: datasets.yaml, or the dataset file of musubi-tuner, diffusion-pipe, SimpleTuner or finetrainers",
  example: `datasets.yaml        - path: cats
                       repeats: 3      (or weight: 2, a share of the epoch)
                     - path: dogs/metadata.csv
                       prompt: a dog   (for clips without one)
cats/...             (each in any format)
dogs/...`,
  detect(source) {
    const path = collectionFile(source);
    return Promise.resolve(path === undefined ? undefined : relative(source.root, path));
  },
  read: readCollection,
} as const satisfies DatasetFormat;
