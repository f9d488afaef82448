/** The recipes in configs/, and how their text is read. */
import schema from "../../configs/schema.json" with { type: "json" };
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { UserError } from "../errors.ts";
import { didYouMean } from "./nearest.ts";

/** Text of a config and the name to show in messages. */
export interface ConfigText {
  /** YAML. */
  readonly text: string;
  /** File the text came from; paths inside are relative to its folder. */
  readonly fileName: string;
}

/**
 * Names of the recipes, as `deno task schema` found them: a program that is loaded over the network cannot list
 * configs/.
 */
export const presetNames: readonly string[] = schema.properties.preset.enum;

function presetUrl(name: string): URL {
  if (!presetNames.includes(name)) {
    throw new UserError(
      `Unknown preset "${name}"${didYouMean(name, presetNames)}`,
      `Presets: ${presetNames.join(", ")}`,
    );
  }
  return new URL(`../../configs/${name}.yaml`, import.meta.url);
}

/**
 * Reads a preset from the file system. Throws UserError for an unknown name, or when the program itself is not in
 * files.
 */
export function readPreset(name: string): ConfigText {
  const url = presetUrl(name);
  if (url.protocol !== "file:") {
    throw new UserError(
      `Preset "${name}" is at ${url}, not in a file`,
      "Load the config with loadConfig, which fetches it",
    );
  }
  const fileName = fileURLToPath(url);
  return { text: readFileSync(fileName, "utf8"), fileName };
}

/** Reads a preset from wherever the program was loaded: a folder, or the registry it is published on. */
export async function fetchPreset(name: string): Promise<ConfigText> {
  const url = presetUrl(name);
  if (url.protocol === "file:") return readPreset(name);
  const response = await fetch(url);
  if (!response.ok) {
    throw new UserError(
      `Cannot load preset "${name}" from ${url}: ${response.status}`,
      "check the network, or name a preset of --help",
    );
  }
  return { text: await response.text(), fileName: `${name}.yaml` };
}
