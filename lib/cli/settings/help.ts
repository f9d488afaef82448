/** The help of commands that take a config, made from the schema of its keys. */
import { presetNames } from "../../config/presets.ts";
import { describeProperty, properties } from "../../config/schema.ts";
import { wrapText } from "../show/text.ts";

const width = 116;
const indent = 32;

/** All keys by group: what each takes, what it means, its default. */
export function configHelp(): string {
  const lines = [
    "Settings come from --preset NAME, a YAML file, and flags; later ones win. Flags are --key value, --key=value or",
    "key=value, with dashes or underscores. With nothing given, configs/default.yaml is used.",
    "",
    "  --config FILE                 YAML file with any of the keys below; a word that ends in .yaml is one too",
    ...keyLines("preset", "Recipe to start from; other settings win over it.", `one of ${presetNames.join(", ")}`),
  ];
  let group: string | undefined;
  for (const [key, help] of Object.entries(properties)) {
    if (help["x-group"] !== group) lines.push("", (group = help["x-group"]).toUpperCase());
    const accepts = key === "train_resolution" || describeProperty(key) === "text" ? [] : [describeProperty(key)];
    const fallback = help.default === undefined ? [] : [`default ${showDefault(help.default)}`];
    lines.push(...keyLines(key, help.description, [...accepts, ...fallback].join("; ")));
  }
  return lines.join("\n");
}

function keyLines(key: string, description: string, accepts: string): string[] {
  const [first, ...more] = wrapText(accepts === "" ? description : `${description} (${accepts})`, width - indent);
  const flag = `  --${key}`;
  const head = flag.length < indent - 1 ? [flag.padEnd(indent) + first] : [flag, " ".repeat(indent) + first];
  return [...head, ...more.map((line) => " ".repeat(indent) + line)];
}

function showDefault(value: unknown): string {
  return Array.isArray(value) ? (value.length === 0 ? "none" : value.join(" ")) : String(value);
}
