/** Puts the sources together and checks single values against the schema. */
import type { z } from "zod";
import { didYouMean } from "./nearest.ts";
import {
  type ConfigInput,
  configKeys,
  describeProperty,
  keysWithoutEffect,
  properties,
  trainSchema,
  valueFromText,
} from "./schema.ts";
import { type Entry, placeOf, type Source } from "./sources.ts";

/** One entry per key, the last source winning. */
export interface Merged {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly problems: string[];
  readonly notes: string[];
}

/** Merges sources in order. A null (or the text `null`) unsets a key, so that its default holds again. */
export function mergeSources(sources: readonly Source[]): Merged {
  const entries = new Map<string, Entry>();
  const problems = sources.flatMap((source) => source.problems);
  const notes: string[] = [];
  for (const source of sources) {
    for (const [key, entry] of source.entries) {
      const useless = Object.hasOwn(keysWithoutEffect, key) ? keysWithoutEffect[key] : undefined;
      if (useless !== undefined) {
        notes.push(`${placeOf(key, entry.where)}: has no effect; ${useless}`);
      } else if (!configKeys.includes(key)) {
        problems.push(`${entry.keyWhere}: unknown key "${key}"${didYouMean(key, configKeys)}`);
      } else if (entry.value === undefined || entry.value === null || (entry.text && entry.value === "null")) {
        entries.delete(key);
      } else if (typeof entry.value === "string" && entry.value.includes("\0")) {
        problems.push(`${placeOf(key, entry.where)}: contains a NUL character`);
      } else if (key === "report_to" && entry.value === "wandb") {
        notes.push(
          `${placeOf(key, entry.where)}: wandb is not supported; metrics.jsonl in output_dir has every figure`,
        );
        entries.delete(key);
      } else if (key === "profile" && entry.value === false) {
        // Checkpoints of 0.1 hold it as a switch.
        entries.delete(key);
      } else if (key !== "preset") {
        entries.set(key, entry.text ? { ...entry, value: valueFromText(key, entry.value as string) } : entry);
      }
    }
  }
  return { entries, problems, notes };
}

/** Checks every value. Wrong ones are replaced by their defaults so that the rules can still look at the others. */
export function checkValues(
  entries: ReadonlyMap<string, Entry>,
): { input: ConfigInput; problems: string[]; wrong: ReadonlySet<string> } {
  const values = Object.fromEntries([...entries].map(([key, { value }]) => [key, value]));
  const result = trainSchema.safeParse(values);
  if (result.success) return { input: result.data, problems: [], wrong: new Set() };
  const problems: string[] = [];
  const wrong = new Set<string>();
  for (const issue of result.error.issues) {
    const key = String(issue.path[0]);
    problems.push(describeIssue(key, issue, entries.get(key)!));
    wrong.add(key);
    delete values[key];
  }
  return { input: trainSchema.parse(values), problems: [...new Set(problems)], wrong };
}

function describeIssue(key: string, issue: z.core.$ZodIssue, entry: Entry): string {
  const item = issue.path[1];
  const ofItem = typeof item === "number" && Array.isArray(entry.value) && key !== "train_resolution";
  const value = ofItem ? (entry.value as unknown[])[item] : entry.value;
  const where = ofItem ? entry.items[item] ?? entry.where : entry.where;
  const choices = (ofItem ? properties[key]!.items : properties[key])?.enum?.map(String);
  const hint = typeof value === "string" && choices !== undefined ? didYouMean(value, choices) : "";
  return `${placeOf(key, where)}: expected ${describeProperty(key)}, found ${show(value)}${hint}`;
}

function show(value: unknown): string {
  return typeof value === "string"
    ? `the text "${value}"`
    : typeof value === "number"
    ? `${value}`
    : JSON.stringify(value);
}
