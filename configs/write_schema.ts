/**
 * Writes what follows from the config's keys and from the presets in this folder: schema.json, from which editors complete YAML
 * files and the program knows the presets, the type of a config, and the reference for people.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { TrainConfig } from "../lib/config/record.ts";
import { reasons } from "../lib/config/reasons.ts";
import { derivedKeys, describeProperty, keysWithoutEffect, properties, type Property } from "../lib/config/schema.ts";

/** Names of the presets in this folder, each with the first sentence of its file: LoRA before sft, small models first. */
export function readPresets(): Map<string, string> {
  const folder = fileURLToPath(new URL(".", import.meta.url));
  const names = readdirSync(folder).filter((name) => name.endsWith(".yaml")).map((name) => name.slice(0, -5));
  const order = (name: string) =>
    `${name === "default" ? 0 : name.includes("lora") ? 1 : 2}${name.replace(/^1/, "9").replace("-i2v", "~")}`;
  return new Map(
    names.toSorted((a, b) => order(a) < order(b) ? -1 : 1).map((name) => {
      const [, ...comment] = readFileSync(`${folder}${name}.yaml`, "utf8").match(/^# .*/gm)!;
      const [sentence] = comment.map((line) => line.slice(2)).join(" ").split(/(?<=\.) /);
      return [name, sentence!];
    }),
  );
}

/** The JSON schema of a config file, with groups and descriptions. */
export function buildSchema(): Record<string, unknown> {
  const presets = readPresets();
  const preset = {
    description: "Recipe to start from; keys of this file win over it.",
    type: "string",
    enum: [...presets.keys()],
    enumDescriptions: [...presets.values()],
  };
  const useless = Object.entries(keysWithoutEffect).map(([key, why]) => [key, { description: `No effect: ${why}.` }]);
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "cogtune config",
    type: "object",
    properties: { preset, ...properties, ...Object.fromEntries(useless) },
    additionalProperties: false,
  };
  // Zod bounds every integer by what a double holds exactly, which says nothing to a reader.
  const drop = (key: string, value: unknown) =>
    /imum$/.test(key) && Math.abs(value as number) === Number.MAX_SAFE_INTEGER ? undefined : value;
  return JSON.parse(JSON.stringify(schema, drop));
}

function typeOf({ type, enum: values, items, anyOf }: Property): string {
  if (anyOf !== undefined) return "readonly [frames: number, height: number, width: number]";
  if (values !== undefined) return values.map((value) => JSON.stringify(value)).join(" | ");
  if (items !== undefined) {
    return items.enum?.length! > 1 ? `readonly (${typeOf(items)})[]` : `readonly ${typeOf(items)}[]`;
  }
  return type === "integer" ? "number" : type!;
}

/** A member with its comment, broken where the formatter breaks it. */
function memberOf(key: string): string {
  const property = properties[key]!;
  const { description, default: value } = property;
  const shown = Array.isArray(value) ? `[${value.join(", ")}]` : `${value}`;
  const lines = [""];
  for (const word of `${description}${value === undefined ? "" : ` Default \`${shown}\`.`}`.split(" ")) {
    if (lines.at(-1)!.length + word.length > 110) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trimStart());
  }
  const comment = lines.length === 1 ? `/** ${lines[0]} */` : `/**\n   * ${lines.join("\n   * ")}\n   */`;
  const optional = value === undefined && !derivedKeys.includes(key);
  const type = typeOf(property) + (optional ? " | undefined" : "");
  const line = `  readonly ${key}${optional ? "?" : ""}: ${type};`;
  const broken = line.length > 120
    ? line.replace(": ", ":\n    | ").replaceAll(" | ", "\n    | ").replace(/\n +\n/g, "\n")
    : line;
  return `  ${comment}\n${broken}\n`;
}

/** The type of a whole config. */
export function buildRecord(): string {
  const members = Object.keys(properties).map(memberOf);
  return `/** The record that says what a run does. Written by \`deno task schema\` from the groups of keys: change those. */

/** Everything a training run depends on. Keys are the names of the original trainer's command line. */
export interface TrainConfig {
${members.join("")}}
`;
}

/** The reference of all keys by group, in Markdown that the formatter still has to wrap. */
export function buildReference(): string {
  const code = (value: unknown) => `\`${Array.isArray(value) ? `[${value.join(", ")}]` : value}\``;
  const sections = [...Map.groupBy(Object.entries(properties), ([, { "x-group": group }]) => group)].map(
    ([group, keys]) => {
      const entries = keys.map(([key, { description, default: value }]) => {
        const { why, effect } = reasons[key as keyof TrainConfig] ?? {};
        const takes = `Takes ${describeProperty(key)}; ${
          value === undefined ? "no default" : `default ${code(value)}`
        }.`;
        return [
          `### ${key}`,
          description,
          takes,
          ...why === undefined ? [] : [why],
          ...effect === undefined ? [] : [effect],
        ]
          .join("\n\n");
      });
      return `## ${group}\n\n${entries.join("\n\n")}`;
    },
  );
  const presets = [...readPresets()].map(([name, sentence]) => `- \`${name}\`: ${sentence}`).join("\n");
  const useless = Object.entries(keysWithoutEffect).map(([key, why]) => `- \`${key}\`: ${why}.`).join("\n");
  const intro =
    "Written by `deno task schema` from the config's own fields; `explain KEY` prints the same. Settings come " +
    "from `--preset NAME`, a YAML file and flags, and later ones win. Paths in a file start at its folder.";
  return [
    "# Config reference",
    intro,
    "## Presets",
    presets,
    ...sections,
    "## Keys without effect",
    "The original trainer has them, so its command lines run as they are:",
    useless,
  ].join("\n\n") + "\n";
}

if (import.meta.main) {
  const write = (name: string, text: string) => writeFileSync(fileURLToPath(new URL(name, import.meta.url)), text);
  write("schema.json", JSON.stringify(buildSchema(), null, 2) + "\n");
  write("../lib/config/record.ts", buildRecord());
  write("../docs/config.md", buildReference());
}
