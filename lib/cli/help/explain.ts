/** `cogtune explain`: what a key is, why it is there, and what belongs to it. */
import schema from "../../../configs/schema.json" with { type: "json" };
import { didYouMean, nearestName } from "../../config/nearest.ts";
import { reasons } from "../../config/reasons.ts";
import type { TrainConfig } from "../../config/record.ts";
import { configKeys, describeProperty, keysWithoutEffect, properties } from "../../config/schema.ts";
import { UserError } from "../../errors.ts";
import { programCall } from "../show/program_call.ts";
import { formatTable, wrapText } from "../show/text.ts";
import { showDefault } from "./config_help.ts";

const WIDTH = 100;
const LABEL = 10;

function paragraph(label: string, text: string): string[] {
  const [first = "", ...more] = wrapText(text, WIDTH - LABEL);
  return [label.padEnd(LABEL) + first, ...more.map((line) => " ".repeat(LABEL) + line)];
}

/** Everything that is written about a key. */
function textOf(key: string): string {
  const { why = "", effect = "" } = reasons[key as keyof TrainConfig] ?? {};
  return `${properties[key]!.description} ${why} ${effect}`;
}

/** Keys that a text names. */
function namedIn(text: string): string[] {
  const words = [...text.matchAll(/`([a-z0-9_]+)`/g)].map(([, word]) => word!);
  return [...new Set(words)].filter((word) => properties[word] !== undefined);
}

/** Keys that the texts of a key name, then those whose texts name it. */
export function relatedKeys(key: string): string[] {
  const naming = Object.keys(properties).filter((other) => namedIn(textOf(other)).includes(key));
  return [...new Set([...namedIn(textOf(key)), ...naming])].filter((other) => other !== key);
}

function explainKey(key: string): string[] {
  const property = properties[key]!;
  const { why, effect } = reasons[key as keyof TrainConfig] ?? {};
  const related = relatedKeys(key);
  const { default: value } = property;
  const example = property.enum?.at(-1) ?? value ?? "VALUE";
  return [
    `${key}  (${property["x-group"]})`,
    "",
    ...paragraph("What", property.description),
    ...(why === undefined ? [] : paragraph("Why", why)),
    ...(effect === undefined ? [] : paragraph("Effect", effect)),
    ...paragraph("Takes", describeProperty(key)),
    ...paragraph("Default", value === undefined ? "none" : showDefault(value)),
    ...(related.length === 0 ? [] : paragraph("Related", related.join(", "))),
    ...paragraph("Write", `--${key} ${showDefault(example)}, or in a YAML file ${key}: ${yamlValue(example)}`),
  ];
}

function yamlValue(value: unknown): string {
  return Array.isArray(value) ? `[${value.join(", ")}]` : String(value);
}

/** The keys of every group, or of one. */
function listGroups(only?: string): string[] {
  const groups = Map.groupBy(Object.entries(properties), ([, help]) => help["x-group"]);
  const lines = [...groups].filter(([title]) => only === undefined || title === only).flatMap(([title, keys]) => {
    const rows = keys.map(([key, { description }]) => [`  ${key}`, inOneLine(description)]);
    return [title.toUpperCase(), ...formatTable(["", ""], rows).slice(1), ""];
  });
  return [...lines, `${programCall()} explain KEY tells more about one of them.`];
}

/** As much of a text as a line of a list has room for. */
function inOneLine(text: string): string {
  const [sentence] = text.split(/(?<=\.) /);
  const [line, ...more] = wrapText(sentence!, WIDTH - 24);
  return more.length === 0 ? line! : `${line} ...`;
}

function explainPresets(): string[] {
  const { enum: names, enumDescriptions } = schema.properties.preset;
  return [
    "preset",
    "",
    ...paragraph("What", "Recipe to start from; other settings win over it. Each is a file in configs/."),
    "",
    ...formatTable(["", ""], names.map((name, i) => [`  ${name}`, inOneLine(enumDescriptions[i]!)])).slice(1),
  ];
}

/**
 * Lines about a key, a group of keys or, without a word, all groups.
 *
 * @throws {UserError} for a key that does not exist, with the nearest that does.
 */
export function explain(word?: string): string[] {
  if (word === undefined) return listGroups();
  const key = word.replace(/^--/, "").replaceAll("-", "_");
  if (key === "preset") return explainPresets();
  if (properties[key] !== undefined) return explainKey(key);
  if (Object.hasOwn(keysWithoutEffect, key)) {
    const about = `Accepted, as the original trainer has it, and without effect: ${keysWithoutEffect[key]}.`;
    return [key, "", ...paragraph("What", about)];
  }
  const titles = [...new Set(Object.values(properties).map((help) => help["x-group"]))];
  const title = titles.find((title) => title.toLowerCase() === word.toLowerCase());
  if (title !== undefined) return listGroups(title);
  const nearest = nearestName(key, configKeys);
  throw new UserError(
    `There is no key "${word}"${didYouMean(key, configKeys)}`,
    nearest === undefined ? "explain without a key lists all of them" : `try: explain ${nearest}`,
  );
}
