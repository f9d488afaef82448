/**
 * What a folder of the cache of downloaded models should hold, and which of its files are known to hold it: every file
 * is hashed once, and again when its size, time or inode are others than then.
 */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { statIfThere } from "../../io/file_operations.ts";
import { type Checksum, hashFile } from "../../io/hash.ts";
import { readJsonObject } from "../../io/json_file.ts";
import { parseWeightName, type WeightName } from "../../io/safetensors/weight_files.ts";

/** Says in a folder of the cache what belongs there. */
const RECORD_FILE = "download.json";

/** Says which files had the right hash, and what they looked like then. */
const VERIFIED_FILE = "verified.json";

/** What the weights of the three networks are called. */
export const BASE_NAMES: Readonly<Record<string, string>> = {
  transformer: "diffusion_pytorch_model",
  vae: "diffusion_pytorch_model",
  text_encoder: "model",
};

/** Everything else that training and sampling read. Weights in other formats lie beside them in many repositories. */
const SMALL_FILES =
  /^(model_index\.json|(transformer|vae|text_encoder)\/config\.json|tokenizer\/(\w+\.json|spiece\.model)|scheduler\/scheduler_config\.json)$/;

/** One file of a model. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  readonly checksum: Checksum;
}

/** What a folder of the cache holds once it is complete. */
export interface HubRecord {
  readonly model: string;
  readonly endpoint: string;
  /** The commit all files are from. */
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** The name of a file of weights or of their index, taken apart; undefined for other files. */
export function weightName(path: string): WeightName | undefined {
  const [, part, file] = /^(transformer|vae|text_encoder)\/([^/]+)$/.exec(path) ?? [];
  const name = file === undefined ? undefined : parseWeightName(file);
  return name?.baseName === BASE_NAMES[part!] ? name : undefined;
}

/** Whether a file holds weights. */
export function isWeight(path: string): boolean {
  return weightName(path)?.isIndex === false;
}

/** Whether a file of a repository is part of a model. */
export function isNeeded(path: string): boolean {
  return SMALL_FILES.test(path) || weightName(path) !== undefined;
}

/** The record of a folder; undefined when there is none. */
export function readRecord(folder: string): HubRecord | undefined {
  const path = join(folder, RECORD_FILE);
  if (!existsSync(path)) return undefined;
  const hint = `delete the folder "${folder}" to download the model again`;
  const record = readJsonObject(path, hint) as Partial<HubRecord>;
  const isFile = ({ path, size, checksum }: Partial<HubFile>) =>
    isNeeded(`${path}`) && Number.isInteger(size) && /^(git|sha256)$/.test(`${checksum?.algorithm}`);
  if (typeof record.commit === "string" && Array.isArray(record.files) && record.files.every(isFile)) {
    return record as HubRecord;
  }
  throw new UserError(`"${path}" is not a record of a download`, hint);
}

/** Writes the record of a folder. */
export async function writeRecord(folder: string, record: HubRecord): Promise<void> {
  await writeFileAtomic(join(folder, RECORD_FILE), `${JSON.stringify(record, null, 1)}\n`);
}

/** Files that are not there in their full size. */
export function missingFiles(folder: string, { files }: HubRecord): HubFile[] {
  return files.filter(({ path, size }) => statIfThere(join(folder, path))?.size !== size);
}

/** Size, time of the last change in milliseconds, and inode. */
type Look = readonly [number, number, number];

function lookOf(path: string): Look {
  const { size, mtimeMs, ino } = statSync(path);
  return [size, mtimeMs, ino];
}

function readVerified(folder: string): Map<string, Look> {
  const path = join(folder, VERIFIED_FILE);
  try {
    return new Map(Object.entries(existsSync(path) ? readJsonObject(path) : {}) as [string, Look][]);
  } catch {
    // A damaged list costs another look at the files.
    return new Map();
  }
}

/** Files of full size that have not been hashed as they are. */
export function unverifiedFiles(folder: string, record: HubRecord): HubFile[] {
  const verified = readVerified(folder);
  const missing = missingFiles(folder, record);
  return record.files.filter((file) => {
    return !missing.includes(file) && `${verified.get(file.path)}` !== `${lookOf(join(folder, file.path))}`;
  });
}

/** Hashes files of full size and remembers those that are right; returns the others. */
export async function verifyFiles(folder: string, files: readonly HubFile[]): Promise<HubFile[]> {
  const damaged: HubFile[] = [];
  for (const file of files) {
    const path = join(folder, file.path);
    const look = lookOf(path);
    const { algorithm, value } = file.checksum;
    const isRight = await hashFile(path, algorithm) === value;
    if (!isRight) damaged.push(file);
    await remember(folder, file.path, isRight ? look : undefined);
  }
  return damaged;
}

/** Remembers that a file that was just downloaded has the right hash. */
export async function rememberDownload(folder: string, { path }: HubFile): Promise<void> {
  await remember(folder, path, lookOf(join(folder, path)));
}

async function remember(folder: string, path: string, look: Look | undefined): Promise<void> {
  const verified = readVerified(folder);
  if (look === undefined) verified.delete(path);
  else verified.set(path, look);
  try {
    await writeFileAtomic(join(folder, VERIFIED_FILE), `${JSON.stringify(Object.fromEntries(verified), null, 1)}\n`);
  } catch {
    // A folder that can't be written, such as one that users share, is checked whenever it is used.
  }
}
