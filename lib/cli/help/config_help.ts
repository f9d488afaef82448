/** The help of commands that take a config, made from the schema of its keys. */
import { presetNames } from "../../config/presets.ts";
import { describeProperty, type KeyProperty, properties } from "../../config/schema.ts";
import { outputFlagsOf } from "../settings/output_flags.ts";
import type { OwnFlag } from "../settings/own_flags.ts";
import { exampleLines } from "./examples.ts";
import { flagLines, ownFlagLines } from "./flag_lines.ts";

/** Keys that decide what a forecast says; the others change nothing that is computed, or not how much of it. */
const OF_FORECAST = ["train_resolution", "data_root", "train_steps", "batch_size", "gradient_accumulation_steps"];

/** Keys by which a dataset is read and judged. */
const OF_DATA = ["model", "model_path", "model_type", "train_resolution"];

/** Which keys have a meaning for a command; all of them where it is not named. Others are accepted everywhere. */
const RELEVANT: Readonly<Record<string, (key: string, group: string) => boolean>> = {
  plan: (key, group) =>
    ["Model", "LoRA", "Memory", "Several GPUs", "Validation"].includes(group) || OF_FORECAST.includes(key) ||
    ["mixed_precision", "matmul_precision", "optimizer", "ema_decay"].includes(key),
  tune: (key, group) =>
    ["Model", "LoRA", "Memory"].includes(group) || OF_FORECAST.includes(key) ||
    ["mixed_precision", "matmul_precision", "optimizer", "engine"].includes(key),
  "data check": (key, group) => OF_DATA.includes(key) || (group === "Data" && !key.startsWith("cache_")),
  "data import": (key, group) => OF_DATA.includes(key) || (group === "Data" && !key.startsWith("cache_")),
};

/** Keys that the help of a command lists, in the order of their groups. */
export function relevantKeys(command: string): readonly (readonly [string, KeyProperty])[] {
  const all = Object.entries(properties);
  const accepts = RELEVANT[command];
  return accepts === undefined ? all : all.filter(([key, help]) => accepts(key, help["x-group"]));
}

/** Examples, the flags of the command itself, and its keys by group: what each takes, what it means, its default. */
export function configHelp(command: string, own: readonly OwnFlag[]): string {
  const lines = [...exampleLines(command), ""];
  lines.push(
    "Settings come from --preset NAME, a YAML file, and flags; later ones win. Flags are --key value, --key=value or",
    "key=value, with dashes or underscores. With nothing given, configs/default.yaml is used. `explain KEY` tells more",
    "about a key.",
    "",
    "FLAGS",
    ...ownFlagLines([...own, ...outputFlagsOf(command)]),
    "",
    "SETTINGS",
    ...flagLines("config FILE", "YAML file with any of the keys below; a word that ends in .yaml is one too"),
    ...flagLines("preset", `Recipe to start from; other settings win over it. (one of ${presetNames.join(", ")})`),
  );
  let group: string | undefined;
  for (const [key, help] of relevantKeys(command)) {
    if (help["x-group"] !== group) lines.push("", (group = help["x-group"]).toUpperCase());
    const accepts = key === "train_resolution" || describeProperty(key) === "text" ? [] : [describeProperty(key)];
    const fallback = help.default === undefined ? [] : [`default ${showDefault(help.default)}`];
    const range = [...accepts, ...fallback].join("; ");
    lines.push(...flagLines(key, range === "" ? help.description : `${help.description} (${range})`));
  }
  if (RELEVANT[command] !== undefined) lines.push("", "Other keys of train are accepted and change nothing here.");
  return lines.join("\n");
}

/** A default as people write it. */
export function showDefault(value: unknown): string {
  return Array.isArray(value) ? (value.length === 0 ? "none" : value.join(" ")) : String(value);
}
