/** Turns another trainer's config into a commented one of this program, and says what could not be taken over. */
import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { stringify } from "yaml";
import { UserError } from "../../errors.ts";
import { pathKeys } from "../derive.ts";
import { describeProperty, properties, trainSchema, valueFromText } from "../schema.ts";
import { type ForeignSource, type ForeignTrainer, type ForeignValue, type Outcome, textOf } from "./foreign.ts";
import { TRAINERS } from "./trainers.ts";

/** A setting of this program and what it was made from. */
interface ImportedSetting {
  readonly value: unknown;
  /** The foreign setting as it is written. */
  readonly from: string;
  readonly why: string | undefined;
}

/** A config of another trainer in terms of this one. */
export interface ImportedConfig {
  readonly trainer: ForeignTrainer;
  /** Settings by key. */
  readonly settings: ReadonlyMap<string, ImportedSetting>;
  /** What has no counterpart, as it is written, and why. */
  readonly left: readonly { readonly from: string; readonly why: string }[];
}

/** Values that must not be copied into a file. */
const SECRET = /token|secret|password|api_key/i;

/** Settings of adapters, which mean nothing where all weights train. */
const OF_ADAPTERS = ["rank", "lora_alpha", "target_modules"];

function written(key: string, value: ForeignValue, { kind }: ForeignSource): string {
  const text = SECRET.test(key) ? "..." : textOf(value).replace(/\s+/g, " ");
  const shown = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  return kind === "command" ? `--${key} ${shown}`.trim() : `${key}: ${shown}`;
}

/** What the words behind a flag, or the value of a file, say by themselves. */
function plainValue(value: ForeignValue): unknown {
  if (!Array.isArray(value)) return value;
  return value.length === 0 ? true : value.length === 1 ? value[0] : value;
}

/** Where a path leads, with what is said about it when it leads nowhere. */
function findPath(path: string, folder: string): { readonly value: string; readonly why?: string } {
  const found = [resolve(folder, path), resolve(folder, basename(path))].find((candidate) => existsSync(candidate));
  return found === undefined ? { value: resolve(folder, path), why: "not found: correct the path" } : { value: found };
}

/** Paths that must exist before a run. */
const INPUTS: readonly string[] = ["data_root", "heldout_root", "init_lora", "validation_dir"];

/**
 * Takes the settings over.
 *
 * @throws {UserError} when no known trainer has such settings.
 */
export function importConfig(source: ForeignSource): ImportedConfig {
  const trainer = TRAINERS.find((each) => each.recognises(source));
  if (trainer === undefined) {
    const known = TRAINERS.map(({ title }) => title).join("; ");
    throw new UserError(
      `No known trainer has these settings: ${[...source.values.keys()].slice(0, 8).join(", ")}`,
      `configs of these are read: ${known}`,
    );
  }
  const settings = new Map<string, ImportedSetting>();
  const left: { from: string; why: string }[] = [];
  for (const [key, value] of source.values) {
    if (value === null) continue;
    const from = written(key, value, source);
    const { set = {}, why } = outcomeOf(trainer, key, value, source);
    if (Object.keys(set).length === 0 && why !== undefined) left.push({ from, why });
    for (const [name, given] of Object.entries(set)) {
      const isPath = (pathKeys as readonly string[]).includes(name);
      const { value: found, why: lost } = isPath && INPUTS.includes(name)
        ? findPath(textOf(given as ForeignValue), source.folder)
        : { value: isPath ? resolve(source.folder, textOf(given as ForeignValue)) : given, why: undefined };
      const taken = typeof found === "string" ? valueFromText(name, found) : found;
      const shape = trainSchema.shape[name as keyof typeof trainSchema.shape];
      if (!shape.safeParse(taken).success) {
        left.push({ from, why: `${name} takes ${describeProperty(name)} here` });
      } else settings.set(name, { value: taken, from, why: [why, lost].filter(Boolean).join("; ") || undefined });
    }
  }
  const isSft = settings.get("training_type")?.value === "sft";
  for (const [key, value] of Object.entries(trainer.defaults)) {
    if (settings.has(key) || (isSft && OF_ADAPTERS.includes(key))) continue;
    settings.set(key, { value, from: `default of ${trainer.name}`, why: undefined });
  }
  if (isSft) { for (const key of OF_ADAPTERS) settings.delete(key); }
  return { trainer, settings, left };
}

function outcomeOf(trainer: ForeignTrainer, key: string, value: ForeignValue, source: ForeignSource): Outcome {
  if (key === "num_processes" || key === "nproc_per_node") {
    const gpus = Number(textOf(value));
    return gpus > 1 ? { set: { gpus } } : {};
  }
  const rule = Object.hasOwn(trainer.rules, key) ? trainer.rules[key] : undefined;
  if (rule === undefined) return { why: "is not known here" };
  return typeof rule === "string" ? { set: { [rule]: plainValue(value) } } : rule(value, source);
}

function scalar(value: unknown): string {
  return Array.isArray(value) ? `[${value.map(scalar).join(", ")}]` : stringify(value, { lineWidth: 0 }).trim();
}

/** A comment cannot end its own line. */
function comment(text: string): string {
  // deno-lint-ignore no-control-regex -- a file of settings may hold any of them
  return `# ${text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ")}`;
}

/** The config as YAML: a line per setting with what it was, and what was left out as comments at the end. */
export function writeImported({ trainer, settings, left }: ImportedConfig, name: string): string {
  const lines = [comment(`Made from ${name}, read as ${trainer.name}. Look it through: cogtune train --dry_run FILE`)];
  if (!settings.has("model_path")) lines.push(comment("It names no model: add model_path, a folder or a hub id."));
  let group: string | undefined;
  for (const [key, property] of Object.entries(properties)) {
    const setting = settings.get(key);
    if (setting === undefined) continue;
    if (property["x-group"] !== group) lines.push("", comment(group = property["x-group"]));
    const { value, from, why } = setting;
    lines.push(`${key}: ${scalar(value)} ${comment(why === undefined ? from : `${from} (${why})`)}`);
  }
  if (left.length > 0) lines.push("", comment("Not taken over:"));
  for (const { from, why } of left) lines.push(comment(`  ${from}: ${why}`));
  return `${lines.join("\n")}\n`;
}
