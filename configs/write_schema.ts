/** Writes configs/schema.json, from which editors complete presets and the command line prints its help. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { presetNames } from "../lib/config/presets.ts";
import { keysWithoutEffect, properties } from "../lib/config/schema.ts";

const files = ["model", "data", "run", "optimization", "lora", "memory", "validation"];

/** A key's group and sentence, as the config interfaces document them. */
interface KeyDoc {
  readonly group: string;
  readonly description: string;
  /** Default that the sentence states, as YAML text. */
  readonly stated: string | undefined;
}

/** Reads the documentation of every key from the interfaces, so that it is written in one place. */
export function readDocs(): Map<string, KeyDoc> {
  const docs = new Map<string, KeyDoc>();
  for (const file of files) {
    const source = readFileSync(new URL(`../lib/config/groups/${file}.ts`, import.meta.url), "utf8");
    for (
      const [, title, body] of source.matchAll(/\/\*\* ([^\n*]+)\. \*\/\nexport interface \w+Config \{\n(.*?)\n\}/gs)
    ) {
      for (const [, sentence, key] of body!.matchAll(/\/\*\*[\s*]*(.+?)\s*\*\/\s*readonly (\w+)/gs)) {
        const [description, stated] = sentence!.replace(/\s*\n\s*\*\s*/g, " ").split(/ Default `(.*)`\.$/);
        docs.set(key!, { group: title!, description: description!, stated });
      }
    }
  }
  return docs;
}

/** The JSON schema of a config file, with groups and descriptions. */
export function buildSchema(): Record<string, unknown> {
  const docs = readDocs();
  const preset = {
    description: "Recipe to start from; keys of this file win over it.",
    type: "string",
    enum: presetNames,
  };
  const keys = Object.entries(properties).map(([key, property]) => {
    const { group, description } = docs.get(key)!;
    return [key, { description, "x-group": group, ...property }];
  });
  const useless = Object.entries(keysWithoutEffect).map(([key, why]) => [key, { description: `No effect: ${why}.` }]);
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "cogtune config",
    type: "object",
    properties: { preset, ...Object.fromEntries(keys), ...Object.fromEntries(useless) },
    additionalProperties: false,
  };
  // Zod bounds every integer by what a double holds exactly, which says nothing to a reader.
  const drop = (key: string, value: unknown) =>
    /imum$/.test(key) && Math.abs(value as number) === Number.MAX_SAFE_INTEGER ? undefined : value;
  return JSON.parse(JSON.stringify(schema, drop));
}

if (import.meta.main) {
  const path = fileURLToPath(new URL("schema.json", import.meta.url));
  writeFileSync(path, JSON.stringify(buildSchema(), null, 2) + "\n");
}
