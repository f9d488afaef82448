/**
 * Which files of a folder hold its weights, by the names that diffusers and transformers give them: one file or an
 * index of shards, with or without a variant such as `fp16` in the name.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";

/** The file to start from. */
export interface WeightFile {
  readonly name: string;
  /** It lists shards instead of holding tensors. */
  readonly isIndex: boolean;
}

/** Variants in the order in which they are taken where the weights without a variant are not there. */
const PREFERRED = ["fp32", "bf16", "fp16"];

/** What the name of a file says about it. */
export interface WeightName extends WeightFile {
  readonly baseName: string;
  /** Such as `fp16`; empty for the weights that are loaded when none is asked for. */
  readonly variant: string;
  readonly isShard: boolean;
}

/** base, variant, shard, variant as older libraries place it, index, variant of the index. */
const NAME = /^(\w+)(?:\.(\w+))?(-\d{5}-of-\d{5})?(?:\.(\w+))?\.safetensors(\.index(?:\.(\w+))?\.json)?$/;

/** Takes the name of a file of weights apart; undefined for other names. */
export function parseWeightName(name: string): WeightName | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [, baseName, variant, shard, late, index, indexVariant] = match;
  return {
    name,
    baseName: baseName!,
    variant: variant ?? late ?? indexVariant ?? "",
    isShard: shard !== undefined,
    isIndex: index !== undefined,
  };
}

/** The variant to take of those there are; "" stands for none. */
export function preferredVariant(variants: Iterable<string>): string | undefined {
  const found = [...new Set(variants)].sort();
  return ["", ...PREFERRED].find((variant) => found.includes(variant)) ?? found[0];
}

/**
 * The weights called `baseName` in a folder.
 *
 * @throws {UserError} when there are none, in another format only, or it is unclear which ones are meant.
 */
export function findWeights(folder: string, baseName: string): WeightFile {
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const candidates = names.flatMap((name) => parseWeightName(name) ?? [])
    .filter((file) => file.baseName === baseName && !file.isShard);
  const variant = preferredVariant(candidates.map((candidate) => candidate.variant));
  const chosen = candidates.filter((candidate) => candidate.variant === variant);
  if (chosen.length > 1) {
    throw new UserError(
      `"${folder}" holds both ${chosen.map(({ name }) => name).join(" and ")}: it is unclear which weights are meant`,
      "remove the stale one",
    );
  }
  const [file] = chosen;
  if (file === undefined) throw noWeights(folder, baseName, names);
  if (existsSync(join(folder, file.name))) return file;
  throw new UserError(
    `"${join(folder, file.name)}" is a link to a file that is not there`,
    "the download is not complete: download the model again",
  );
}

/** The command that makes one safetensors file of pickles. */
export function conversion(pickles: readonly string[], target: string): string {
  return `python3 -c 'import torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() ` +
    `for f in ${JSON.stringify(pickles)} for k, v in torch.load(f, map_location="cpu", weights_only=True).items()}, ` +
    `${JSON.stringify(target)}, {"format": "pt"})'`;
}

function noWeights(folder: string, baseName: string, names: readonly string[]): UserError {
  const pickles = names.filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  if (pickles.length > 0) {
    return new UserError(
      `"${folder}" holds its weights as PyTorch pickles only (${
        pickles.join(", ")
      }), which can run code when they are ` +
        "loaded: cogtune reads safetensors",
      `convert them, if you trust where they come from: cd "${folder}" && ` +
        conversion(pickles, `${baseName}.safetensors`),
    );
  }
  return new UserError(
    `"${folder}" holds neither ${baseName}.safetensors nor ${baseName}.safetensors.index.json, nor a variant of them; ` +
      describeFolder(folder, names),
    "cogtune reads model folders in the diffusers layout with safetensors weights",
  );
}

function describeFolder(folder: string, names: readonly string[]): string {
  if (!existsSync(folder)) return "the folder does not exist";
  if (names.length === 0) return "it is empty";
  return `it holds ${names.slice(0, 10).join(", ")}${names.length > 10 ? ` and ${names.length - 10} more` : ""}`;
}
