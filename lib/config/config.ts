/**
 * The strict reading of the record that says what a run does.
 *
 * Values come from four places, the later ones first in rank: defaults, a preset from configs/, the user's YAML file,
 * the command line. Every problem of all of them is reported at once with its place.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { stringify } from "yaml";
import { UserError, UserErrors } from "../errors.ts";
import { checkValues, mergeSources } from "./check.ts";
import {
  bucketShapes,
  drawnVariant,
  isDrawn,
  modelNameOf,
  namesVersion15,
  nativeResolution,
  resolvePaths,
  timestampedFolder,
  variantFromPath,
} from "./derive.ts";
import { type ConfigText, fetchPreset, readPreset } from "./presets.ts";
import type { TrainConfig } from "./record.ts";
import { applyRules } from "./rules.ts";
import { type ConfigInput, properties } from "./schema.ts";
import { placeOf, readOverrides, readYaml, type Source } from "./sources.ts";

export type { TrainConfig } from "./record.ts";

/** How a config text is read. */
export interface ParseOptions {
  /** Name for messages; relative paths in the text start at its folder. Default "config". */
  readonly fileName?: string;
  /** Values that win over the text, by key: text as typed on a command line, or values of the key's type. */
  readonly overrides?: Readonly<Record<string, unknown>>;
  /** Text of the preset, when it has been fetched already. Presets are read from configs/ otherwise. */
  readonly preset?: ConfigText;
  /** Start time, which names the output folder of a run that names none. */
  readonly now?: Date;
}

/** A config with what the reader wants the user to know. */
export interface ResolvedConfig {
  /** All keys, given or not. */
  readonly config: TrainConfig;
  /** Settings that are legal but have no effect or are likely a mistake. */
  readonly notes: readonly string[];
}

/** A config with everything that is wrong with it. */
export interface CollectedConfig {
  /** Wrong values are replaced by their defaults; undefined when nothing tells which model is meant. */
  readonly config: TrainConfig | undefined;
  /** What must be mended, with its place. */
  readonly problems: readonly string[];
  /** What the user should know. */
  readonly notes: readonly string[];
}

/** What helps with a config that has problems. */
export const CONFIG_HINT = "cogtune train --help lists every key and its default";

/** Where a config comes from. */
export interface ConfigOrigin {
  /** YAML file. */
  readonly fileName?: string;
  /** Preset to start from; its keys give way to those of the file. */
  readonly preset?: string;
  /** Values by key, which win over both: text as typed on a command line, or values of the key's type. */
  readonly overrides?: Readonly<Record<string, unknown>>;
}

/**
 * Reads a config from YAML text. Throws UserErrors with the place of every unknown key, wrong value and broken rule.
 *
 * @example
 * ```ts
 * import { parseConfig } from "@cogtune/cogtune";
 *
 * const config = parseConfig("preset: 5b-lora\ndata_root: clips", { overrides: { train_steps: 1000 } });
 * ```
 */
export function parseConfig(text: string, options: ParseOptions = {}): TrainConfig {
  return resolveConfig(text, options).config;
}

/**
 * As {@linkcode parseConfig}, with the notes that the command line prints.
 *
 * @example
 * ```ts
 * import { resolveConfig } from "@cogtune/cogtune";
 *
 * const { notes } = resolveConfig("model: 5b\noptimizer: prodigy");
 * if (!notes.some((note) => note.startsWith("learning_rate"))) throw new Error("Prodigy wants a learning rate of 1");
 * ```
 */
export function resolveConfig(text: string, options: ParseOptions = {}): ResolvedConfig {
  return requireSound(collectText(text, options));
}

function collectText(text: string, options: ParseOptions): CollectedConfig {
  const file = readYaml(text, options.fileName ?? "config");
  const overrides = readOverrides(options.overrides ?? {});
  const preset = options.preset ?? presetOf(file, overrides);
  const sources = [...(preset === undefined ? [] : [readYaml(preset.text, preset.fileName)]), file, overrides];
  const { entries, problems, notes } = mergeSources(sources);
  const checked = checkValues(entries);
  problems.push(...checked.problems);

  const input = resolvePaths(checked.input, (key) => entries.get(key)?.folder ?? ".");
  const config = complete(input, options.now ?? new Date());
  if (config === undefined) {
    problems.push(missingModel(input));
  } else {
    for (const { severity, key, message } of applyRules(config, (key) => entries.has(key))) {
      if (checked.wrong.has(key)) continue;
      (severity === "error" ? problems : notes).push(`${placeOf(key, entries.get(key)?.where)}: ${message}`);
    }
  }
  return { config, problems, notes };
}

function requireSound({ config, problems, notes }: CollectedConfig): ResolvedConfig {
  if (config !== undefined && problems.length === 0) return { config, notes };
  throw new UserErrors("Cannot use this config", problems, CONFIG_HINT);
}

/**
 * Reads a config from a file, a preset and overrides, whichever are given. Presets are fetched when the program is not
 * in files.
 *
 * @throws {UserErrors} as {@linkcode parseConfig}; {UserError} when the file does not exist.
 * @example
 * ```ts
 * import { loadConfig } from "@cogtune/cogtune";
 *
 * const { config } = await loadConfig({ preset: "5b-lora", overrides: { rank: 64 } });
 * if (config.rank !== 64 || config.lora_alpha !== 64) throw new Error("alpha follows rank");
 * ```
 */
export async function loadConfig(options: ConfigOrigin = {}): Promise<ResolvedConfig> {
  return requireSound(await collectConfig(options));
}

/**
 * As {@linkcode loadConfig}, but problems of the config are returned, so that those of the files it names can be told
 * with them.
 *
 * @throws {UserError} when the file or the preset does not exist.
 */
export async function collectConfig(options: ConfigOrigin = {}): Promise<CollectedConfig> {
  const { fileName, overrides = {} } = options;
  if (fileName !== undefined && !existsSync(fileName)) {
    throw new UserError(`Config file "${fileName}" does not exist`, "Give the path of a YAML file, or --preset NAME");
  }
  const text = fileName === undefined ? "" : readFileSync(fileName, "utf8");
  const name = fileName ?? "config";
  const preset = options.preset ?? presetName(readYaml(text, name), readOverrides(overrides));
  const fetched = preset === undefined ? {} : { preset: await fetchPreset(preset) };
  return collectText(text, { fileName: name, overrides, ...fetched });
}

/**
 * The config as YAML, in the order of the groups; read back it gives the same config.
 *
 * @example
 * ```ts
 * import { parseConfig, printConfig } from "@cogtune/cogtune";
 *
 * const config = parseConfig("preset: 2b-lora", { overrides: { output_dir: "/runs/mine" } });
 * const text = printConfig(config);
 * if (printConfig(parseConfig(text)) !== text) throw new Error("a printed config is complete");
 * ```
 */
export function printConfig(config: TrainConfig): string {
  const [frames, height, width] = config.train_resolution;
  const values = new Map<string, unknown>(
    Object.entries({ ...config, train_resolution: `${frames}x${height}x${width}` }),
  );
  const ordered = Object.keys(properties).filter((key) => values.has(key)).map((key) => [key, values.get(key)]);
  return stringify(Object.fromEntries(ordered), { lineWidth: 0 });
}

/** Throws UserErrors unless the config names what training (rather than forecasting) needs: weights and data. */
export function requireTrainable(config: TrainConfig): void {
  if (isDrawn(config)) return;
  const problems: string[] = [];
  if (config.data_root === undefined) problems.push("data_root: not set; expected the folder of the dataset");
  else if (!existsSync(config.data_root)) problems.push(`data_root: "${config.data_root}" does not exist`);
  if (config.model_path === undefined) {
    problems.push("model_path: not set; expected a diffusers folder or a hub id such as THUDM/CogVideoX-2b");
  }
  if (config.init_lora !== undefined && !existsSync(config.init_lora)) {
    problems.push(`init_lora: "${config.init_lora}" does not exist`);
  }
  if (problems.length > 0) {
    throw new UserErrors(
      "Cannot train with this config",
      problems,
      "give the folders of your clips and of the model: --data_root FOLDER --model_path FOLDER",
    );
  }
}

/** Bytes of GPU memory that a run may take. */
export function gpuMemoryLimit({ gpu_memory }: TrainConfig): number {
  return gpu_memory === undefined ? Infinity : gpu_memory * 2 ** 30;
}

function presetName(...sources: readonly Source[]): string | undefined {
  const value = sources.map((source) => source.entries.get("preset")?.value).findLast((value) => value !== undefined);
  return typeof value === "string" ? value : undefined;
}

function presetOf(...sources: readonly Source[]): ConfigText | undefined {
  const name = presetName(...sources);
  return name === undefined ? undefined : readPreset(name);
}

/** Fills the keys that follow from others; undefined when nothing tells which model is meant. */
function complete(input: ConfigInput, now: Date): TrainConfig | undefined {
  const { model_path } = input;
  const model = input.model ?? (model_path === undefined ? drawnVariant(input) : variantFromPath(model_path));
  const model_name = input.model_name ?? (model === undefined ? undefined : modelNameOf(model));
  if (model_name === undefined) return undefined;
  // A run that continues from a checkpoint goes on in the folder where that checkpoint lies.
  const resumed = input.resume_from_checkpoint;
  return {
    ...input,
    ...(model === undefined ? {} : { model }),
    model_name,
    model_type: input.model_type ?? (model_name.endsWith("i2v") ? "i2v" : "t2v"),
    output_dir: input.output_dir ?? (resumed === undefined ? timestampedFolder(now) : dirname(resumed)),
    train_resolution: input.train_resolution ?? bucketShapes(input.buckets)[0] ?? nativeResolution(model, model_name),
    fps: input.fps ?? (namesVersion15(model_name) ? 16 : 8),
    lora_alpha: input.lora_alpha ?? input.rank,
    alpha_pattern: input.lora_alpha === undefined
      ? [...input.alpha_pattern, ...input.rank_pattern]
      : input.alpha_pattern,
  };
}

function missingModel(input: ConfigInput): string {
  return input.model_path === undefined
    ? "model: nothing names a model; set preset, model_path or model"
    : `model_name: "${input.model_path}" does not tell which model it is; set model (as 2b or 1.5-5b-i2v) or model_name`;
}
