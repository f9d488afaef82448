/** Fills in the keys that follow from others: the trainer name, the shape of a clip, the frame rate, alpha, folders. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { basename, resolve } from "node:path";
import { parseHubId } from "../models/folder/hub.ts";
import type { LayerValue } from "../models/lora/adapters.ts";
import type { ModelVariant } from "../models/transformer/config.ts";
import type { Resolution } from "./groups/data.ts";
import { type ModelName, modelVariants } from "./groups/model.ts";
import type { ConfigInput } from "./schema.ts";

/** Whether a name is of CogVideoX 1.5. */
export function namesVersion15(model: ModelName | ModelVariant): boolean {
  return model.includes("1.5");
}

/** The variant that a folder or hub id is named after, as CogVideoX1.5-5B-I2V. */
export function variantFromPath(path: string): ModelVariant | undefined {
  const name = basename(path).toLowerCase();
  const exact = modelVariants.find((variant) => variant === name);
  if (exact !== undefined) return exact;
  const size = /1\.5[-_]5b/.test(name)
    ? "1.5-5b"
    : /(^|[-_])5b/.test(name)
    ? "5b"
    : /(^|[-_])2b/.test(name)
    ? "2b"
    : undefined;
  if (size === undefined || size === "2b") return size;
  return name.includes("i2v") ? `${size}-i2v` : size;
}

/** Trainer name of a variant. */
export function modelNameOf(variant: ModelVariant): ModelName {
  const version = namesVersion15(variant) ? "cogvideox1.5" : "cogvideox";
  return `${version}-${variant.endsWith("i2v") ? "i2v" : "t2v"}`;
}

/** Whether a run names no files of a model: weights, latents and prompts are drawn at random. */
export function isDrawn({ random_weights, model_path }: Pick<ConfigInput, "random_weights" | "model_path">): boolean {
  return random_weights && model_path === undefined;
}

/** The model that such a run means by its trainer name alone: the smallest released one of that name. */
export function drawnVariant(input: ConfigInput): ModelVariant | undefined {
  return isDrawn(input) ? modelVariants.find((variant) => modelNameOf(variant) === input.model_name) : undefined;
}

/**
 * Frames, height and width that the model was trained at; for the tiny shapes, the smallest clip that has every kind of
 * token.
 */
export function nativeResolution(model: ModelVariant | undefined, name: ModelName): Resolution {
  if (model?.startsWith("tiny-")) return [9, 48, 80];
  return namesVersion15(name) ? [81, 768, 1360] : [49, 480, 720];
}

/** Buckets as frames, height and width. */
export function bucketShapes(buckets: readonly string[]): Resolution[] {
  return buckets.map((bucket) => {
    const [frames, height, width] = bucket.split("x").map(Number);
    return [frames!, height!, width!];
  });
}

/** The shapes that clips are trained at: the buckets, or `train_resolution` alone. */
export function clipShapes(
  { buckets, train_resolution }: { readonly buckets: readonly string[]; readonly train_resolution: Resolution },
): [Resolution, ...Resolution[]] {
  const [first = train_resolution, ...others] = bucketShapes(buckets);
  return [first, ...others];
}

/** LAYER=NUMBER as a pattern and its value. */
export function layerValues(pairs: readonly string[]): LayerValue[] {
  return pairs.map((pair) => {
    const equals = pair.lastIndexOf("=");
    return { pattern: pair.slice(0, equals), value: Number(pair.slice(equals + 1)) };
  });
}

/** Keys whose value is a path in its own right; lists below `data_root` and `validation_dir` are relative to those. */
export const pathKeys = [
  "output_dir",
  "data_root",
  "cache_dir",
  "validation_dir",
  "heldout_root",
  "resume_from_checkpoint",
  "init_lora",
] as const;

/** Makes paths absolute: those in a file start at its folder, those on the command line at the current folder. */
export function resolvePaths(input: ConfigInput, folderOf: (key: string) => string): ConfigInput {
  const absolute = (key: string, path: string): string =>
    path.startsWith("~/") ? resolve(homedir(), path.slice(2)) : resolve(folderOf(key), path);
  const paths = pathKeys.filter((key) => input[key] !== undefined && input[key] !== "latest")
    .map((key) => [key, absolute(key, input[key]!)]);
  const result: ConfigInput = { ...input, ...Object.fromEntries(paths) };
  if (input.model_path === undefined) return result;
  const folder = absolute("model_path", input.model_path);
  // `owner/name` is a hub id unless such a folder exists.
  const isHubId = parseHubId(input.model_path) !== undefined && !existsSync(folder);
  return { ...result, model_path: isHubId ? input.model_path : folder };
}

/** Folder of a run that names none: the start time, so that two runs never share one. */
export function timestampedFolder(now: Date): string {
  const [date, time] = now.toISOString().slice(0, 19).split("T");
  return resolve("runs", `${date}_${time!.replaceAll(":", "-")}`);
}
