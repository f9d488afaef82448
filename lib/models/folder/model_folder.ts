/**
 * A model folder in diffusers layout: which files it must have, and the configs that training and sampling depend on.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { UserError, UserErrors } from "../../errors.ts";
import { statIfThere } from "../../io/file_operations.ts";
import { readJsonObject } from "../../io/json_file.ts";
import { LIMITS_HINT } from "../tensors/config_values.ts";
import {
  isImageToVideo,
  LATENT_PIXELS,
  parseTransformerConfig,
  type TransformerConfig,
} from "../transformer/config.ts";
import { parseVaeConfig, spatialCompression, type VaeConfig } from "../vae/config.ts";

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
  /** Absolute paths of the files that determine what a part gives. */
  readonly transformerFiles: readonly string[];
  readonly vaeFiles: readonly string[];
  readonly textEncoderFiles: readonly string[];
}

const HINT = "model_path must be a CogVideoX folder as diffusers saves it: model_index.json, transformer/, vae/, " +
  "text_encoder/, tokenizer/ and scheduler/";

/** Files without which a folder is no model, besides weights; of alternatives one is enough. */
const REQUIRED: readonly (readonly string[])[] = [
  ["transformer/config.json"],
  ["vae/config.json"],
  ["text_encoder/config.json"],
  ["tokenizer/spiece.model", "tokenizer/tokenizer.json"],
  ["scheduler/scheduler_config.json"],
];

/** One line for each file that a model needs, besides weights, and that is not there. */
export function missingParts(exists: (path: string) => boolean): string[] {
  return REQUIRED.filter((files) => !files.some(exists)).map((files) => {
    return `${files.join(" or ")} is missing`;
  });
}

/**
 * The snapshot that `main` names in a folder of the cache of Hugging Face's libraries (`models--OWNER--NAME`, where
 * `snapshots/COMMIT` has links to `blobs/`), or the only one there is. Every other path as it is.
 *
 * @throws {UserError} when it is unclear which snapshot is meant.
 */
export function snapshotPath(path: string): string {
  const snapshots = join(path, "snapshots");
  if (!existsSync(snapshots) || existsSync(join(path, "model_index.json"))) return path;
  const names = readdirSync(snapshots).sort();
  const main = join(path, "refs", "main");
  const commit = existsSync(main) ? readFileSync(main, "utf8").trim() : undefined;
  const [name, ...others] = commit === undefined ? names : names.filter((name) => name === commit);
  if (name !== undefined && others.length === 0) return join(snapshots, name);
  throw new UserError(
    commit === undefined
      ? `"${path}" has ${names.length} snapshots and no refs/main`
      : `refs/main of "${path}" names the snapshot ${JSON.stringify(commit.slice(0, 60))}, which is not there`,
    names.length === 0
      ? "the download is not complete"
      : `give one of ${names.map((each) => join(snapshots, each)).join(", ")}`,
  );
}

function filesBelow(folder: string, suffixes: readonly string[]): string[] {
  return readdirSync(folder).filter((name) => suffixes.some((suffix) => name.endsWith(suffix))).sort()
    .map((name) => join(folder, name));
}

/** What keeps latents of this autoencoder from being what this transformer reads. */
function partProblems(transformer: TransformerConfig, vae: VaeConfig): string[] {
  const problems: string[] = [];
  const factor = spatialCompression(vae);
  if (factor !== LATENT_PIXELS) {
    problems.push(
      `vae/config.json has ${vae.block_out_channels.length} block_out_channels, so a latent stands for ${factor} pixels ` +
        `in each direction: cogtune computes ${LATENT_PIXELS} only`,
    );
  }
  const ratio = "temporal_compression_ratio";
  if (vae[ratio] !== transformer[ratio]) {
    problems.push(`${ratio} is ${vae[ratio]} in vae/config.json and ${transformer[ratio]} in transformer/config.json`);
  }
  const wanted = isImageToVideo(transformer) ? 2 * vae.latent_channels : vae.latent_channels;
  if (transformer.in_channels !== wanted) {
    problems.push(
      `latent_channels is ${vae.latent_channels} in vae/config.json, but in_channels of transformer/config.json is ` +
        `${transformer.in_channels} instead of ${wanted}`,
    );
  }
  return problems;
}

/**
 * Reads the configs of a model folder; no weights.
 *
 * @throws {UserErrors} naming everything that is missing, or what a config says that this project cannot compute.
 */
export function openModelFolder(folder: string): ModelFolder {
  const path = snapshotPath(folder);
  const problems: string[] = [];
  if (!existsSync(path)) problems.push(`"${path}" does not exist`);
  else if (!statSync(path).isDirectory()) problems.push(`"${path}" is no folder`);
  else {
    problems.push(...missingParts((file) => statIfThere(join(path, file)) !== undefined));
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
  const transformer = parseTransformerConfig(json("transformer/config.json"), join(path, "transformer/config.json"));
  const vae = parseVaeConfig(json("vae/config.json"), join(path, "vae/config.json"));
  const disagreements = partProblems(transformer, vae);
  if (disagreements.length > 0) throw new UserErrors(`Cannot use model_path "${path}"`, disagreements, LIMITS_HINT);
  return {
    path,
    transformer,
    vae,
    scheduler: json("scheduler/scheduler_config.json"),
    transformerFiles: filesBelow(join(path, "transformer"), files),
    vaeFiles: filesBelow(join(path, "vae"), files),
    textEncoderFiles: [
      ...filesBelow(join(path, "text_encoder"), files),
      ...["spiece.model", "tokenizer.json"].map((name) => join(path, "tokenizer", name)).filter(existsSync).slice(0, 1),
    ],
  };
}
