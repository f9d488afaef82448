/**
 * A model folder in diffusers layout: which files it must have, and the configs that training and sampling depend on.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { UserErrors } from "../../errors.ts";
import { readJsonObject } from "../../io/json_file.ts";
import { parseTransformerConfig, type TransformerConfig } from "../transformer/config.ts";
import { parseVaeConfig, type VaeConfig } from "../vae/config.ts";

/** What training and sampling have to know of a model besides its weights. */
export interface ModelConfigs {
  /** Its folder; unset for a model that is known by name alone and has random weights. */
  readonly path?: string;
  readonly transformer: TransformerConfig;
  readonly vae: VaeConfig;
  /** Parsed `scheduler/scheduler_config.json`. */
  readonly scheduler: Readonly<Record<string, unknown>>;
}

/** The parts of a model folder. */
export interface ModelFolder extends ModelConfigs {
  readonly path: string;
  /** Absolute paths of the files that determine what an encoder gives. */
  readonly vaeFiles: readonly string[];
  readonly textEncoderFiles: readonly string[];
}

const HINT = "model_path must be a CogVideoX folder as diffusers saves it: model_index.json, transformer/, vae/, " +
  "text_encoder/, tokenizer/ and scheduler/";

/** Files without which a folder is no model, besides weights. */
export const requiredFiles: readonly string[] = [
  "transformer/config.json",
  "vae/config.json",
  "text_encoder/config.json",
  "tokenizer/spiece.model",
  "scheduler/scheduler_config.json",
];

function filesBelow(folder: string, suffixes: readonly string[]): string[] {
  return readdirSync(folder).filter((name) => suffixes.some((suffix) => name.endsWith(suffix))).sort()
    .map((name) => join(folder, name));
}

/**
 * Reads the configs of a model folder; no weights.
 *
 * @throws {UserErrors} naming everything that is missing, or what a config says that this project cannot compute.
 */
export function openModelFolder(path: string): ModelFolder {
  const problems: string[] = [];
  if (!existsSync(path)) problems.push(`"${path}" does not exist`);
  else if (!statSync(path).isDirectory()) problems.push(`"${path}" is no folder`);
  else {
    for (const file of requiredFiles) if (!existsSync(join(path, file))) problems.push(`${file} is missing`);
    const index = join(path, "model_index.json");
    if (existsSync(index)) {
      const name = readJsonObject(index, HINT)._class_name;
      if (typeof name === "string" && !name.startsWith("CogVideoX")) {
        problems.push(`model_index.json says ${name}: expected a CogVideoX pipeline`);
      }
    }
  }
  if (problems.length > 0) throw new UserErrors(`Cannot use model_path "${path}"`, problems, HINT);
  const json = (file: string) => readJsonObject(join(path, file), HINT);
  const files = [".safetensors", ".json"];
  return {
    path,
    transformer: parseTransformerConfig(json("transformer/config.json"), join(path, "transformer/config.json")),
    vae: parseVaeConfig(json("vae/config.json"), join(path, "vae/config.json")),
    scheduler: json("scheduler/scheduler_config.json"),
    vaeFiles: filesBelow(join(path, "vae"), files),
    textEncoderFiles: [
      ...filesBelow(join(path, "text_encoder"), files),
      join(path, "tokenizer/spiece.model"),
    ],
  };
}
