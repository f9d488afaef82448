/** Turns the many ways of writing a setting (`--train_steps 5`, `--train-steps=5`, `train_steps=5`) into one. */
import { UserErrors } from "../../errors.ts";
import { configKeys, keysWithoutEffect, properties } from "../../config/schema.ts";
import type { OwnFlag } from "./own_flags.ts";

/** Where a command finds its config. */
export interface ConfigArguments {
  readonly fileName?: string;
  readonly overrides: Readonly<Record<string, string>>;
}

/** Words that the command-line framework answers itself. */
const builtIn = new Set(["-h", "--help", "--helpAll", "--help-all"]);

/**
 * Rewrites flags as `key=value`. A flag that takes a list takes all words up to the next flag (`--target_modules to_q
 * to_k`); a boolean flag without a word is true, and `--no-KEY` is false. Words that are no flags stay as they are.
 * `own` are the flags of the command that are no settings.
 */
export function normalizeArguments(args: readonly string[], own: readonly OwnFlag[] = []): string[] {
  const switches = own.filter(({ takes }) => takes === undefined).map(({ name }) => name);
  const result: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (!word.startsWith("--") || builtIn.has(word)) {
      result.push(word);
      continue;
    }
    const equals = word.indexOf("=");
    const name = word.slice(2, equals < 0 ? undefined : equals).replaceAll("-", "_");
    if (equals >= 0) {
      result.push(`${name}=${word.slice(equals + 1)}`);
      continue;
    }
    if (switches.includes(name)) {
      result.push(`${name}=true`);
      continue;
    }
    const values: string[] = [];
    while (at + 1 < args.length && takesMore(name, values.length) && isValue(args[at + 1]!)) values.push(args[++at]!);
    result.push(settingOf(name, values));
  }
  return result;
}

function takesMore(name: string, count: number): boolean {
  if (properties[name]?.type === "array") return true;
  const negated = name.startsWith("no_") && properties[name.slice(3)]?.type === "boolean";
  return count === 0 && !negated;
}

/** Whether a word after a flag belongs to it. `key=value` of a known key is a setting of its own. */
function isValue(word: string): boolean {
  const key = /^([a-z0-9_-]+)=/.exec(word)?.[1]?.replaceAll("-", "_");
  return !word.startsWith("--") && !builtIn.has(word) && (key === undefined || !configKeys.includes(key));
}

function settingOf(name: string, values: readonly string[]): string {
  if (values.length > 0) return `${name}=${values.join(" ")}`;
  const positive = name.slice(3);
  if (name.startsWith("no_") && properties[positive]?.type === "boolean") return `${positive}=false`;
  if (properties[name]?.type === "boolean" || Object.hasOwn(keysWithoutEffect, name)) return `${name}=true`;
  return `${name}=`;
}

/**
 * Reads rewritten arguments: one YAML file at most, and settings. With nothing that names a model, the preset
 * `fallback`.
 */
export function configArguments(words: readonly string[], fallback = "default"): ConfigArguments {
  const problems: string[] = [];
  const overrides: Record<string, string> = {};
  const files: string[] = [];
  for (const word of words) {
    const equals = word.indexOf("=");
    const key = word.slice(0, Math.max(0, equals)).replaceAll("-", "_");
    if (equals > 0 && /^\w+$/.test(key)) {
      if (key === "config") files.push(word.slice(equals + 1));
      else overrides[key] = word.slice(equals + 1);
    } else if (/\.ya?ml$/i.test(word)) files.push(word);
    else problems.push(`"${word}": expected a YAML file, --key value or key=value`);
  }
  if (files.length > 1) problems.push(`${files.join(", ")}: expected one config file at most`);
  if (problems.length > 0) {
    throw new UserErrors("Cannot use these arguments", problems, "cogtune train --help lists every key");
  }
  const [fileName] = files;
  if (fileName !== undefined) return { fileName, overrides };
  const namesModel = ["preset", "model", "model_path", "model_name"].some((key) => Object.hasOwn(overrides, key));
  return { overrides: namesModel ? overrides : { preset: fallback, ...overrides } };
}
