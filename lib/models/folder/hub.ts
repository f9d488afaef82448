/**
 * Models by hub id: `owner/name` or `owner/name@revision` in place of a folder. The files a CogVideoX pipeline needs
 * are downloaded once into a folder of the user's cache, from one commit; afterwards no network is needed.
 */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError, UserErrors } from "../../errors.ts";
import { partBytes } from "../../io/download.ts";
import { fileError, fileOperations, requireFreeBytes } from "../../io/file_operations.ts";
import {
  type HubFile,
  type HubRecord,
  isWeight,
  missingFiles,
  readRecord,
  rememberDownload,
  unverifiedFiles,
  verifyFiles,
  writeRecord,
} from "./hub_record.ts";
import { type HubId, HubServer, type ServerOptions } from "./hub_server.ts";
import { openModelFolder, snapshotPath } from "./model_folder.ts";

/** Milliseconds between two looks at a lock that another process holds. */
const LOCK_INTERVAL = 500;

/** Bytes of a model have arrived. */
export interface DownloadEvent {
  /** Tells events apart. */
  readonly type: "download";
  /** Hub id. */
  readonly model: string;
  /** File that is being downloaded. */
  readonly file: string;
  /** Bytes on disk, over all files of the model. */
  readonly done: number;
  /** Bytes in all. */
  readonly total: number;
}

/** What {@linkcode resolveModelPath} tells while it works. */
export type HubEvent = DownloadEvent | { readonly type: "status"; readonly message: string };

/** Options of {@linkcode resolveModelPath}. */
export interface HubOptions extends ServerOptions {
  /** Where models are kept. Default `~/.cache/cogtune/models`. */
  readonly cacheFolder?: string;
}

function defaultCache(): string {
  return join(homedir(), ".cache", "cogtune", "models");
}

/** Reads `owner/name` or `owner/name@revision`; undefined for everything else, such as a path. */
export function parseHubId(text: string): HubId | undefined {
  const [, owner, name, revision] = /^(\w[\w.-]*)\/(\w[\w.-]*)(?:@(\w[\w./-]*))?$/.exec(text) ?? [];
  return owner === undefined ? undefined : { owner, name: name!, revision };
}

/** The folder of the cache for a hub id; undefined when `path` exists or is no hub id. */
function placeOf(
  path: string,
  { cacheFolder = defaultCache() }: HubOptions,
): { readonly id: HubId; readonly folder: string } | undefined {
  const id = existsSync(path) ? undefined : parseHubId(path);
  if (id === undefined) return undefined;
  const { owner, name, revision } = id;
  const version = revision === undefined ? "" : `@${revision.replaceAll("/", "--")}`;
  return { id, folder: join(cacheFolder, `${owner}--${name}${version}`) };
}

/** The record of a folder that has all of its files; undefined otherwise. */
function completeRecord(folder: string): HubRecord | undefined {
  const record = readRecord(folder);
  return record !== undefined && missingFiles(folder, record).length === 0 ? record : undefined;
}

/**
 * The folder of a model that is on this machine: `path` itself when it exists or is no hub id (of a folder of Hugging
 * Face's cache its snapshot), otherwise that of the cache; undefined when it is not downloaded.
 */
export function findModelPath(path: string, options: HubOptions = {}): string | undefined {
  const place = placeOf(path, options);
  if (place === undefined) return snapshotPath(path);
  return completeRecord(place.folder) === undefined ? undefined : place.folder;
}

/**
 * As {@linkcode findModelPath}; downloaded files that were never verified as they are, are hashed.
 *
 * @throws {UserError} when it is not downloaded; {UserErrors} naming files that are not what the hub gave.
 */
export async function localModelPath(path: string, options: HubOptions = {}): Promise<string> {
  const place = placeOf(path, options);
  if (place === undefined) return snapshotPath(path);
  const { folder } = place;
  const record = completeRecord(folder);
  if (record === undefined) {
    throw new UserError(
      `"${path}" is no folder, and no model of this id is downloaded`,
      "train or sample with it, or give a folder",
    );
  }
  const damaged = await verifyFiles(folder, unverifiedFiles(folder, record));
  if (damaged.length === 0) return folder;
  throw new UserErrors(
    `The downloaded model "${path}" is damaged`,
    damaged.map((file) => `${join(folder, file.path)} has another hash than the hub's`),
    "train or sample with it, which downloads these files again",
  );
}

/**
 * As {@linkcode localModelPath}, downloading what is missing or damaged. An interrupted download continues where it
 * stopped. Several processes may ask for one model: one downloads, the others wait.
 *
 * @throws {UserError} when there is no such model, it is not open to this user, or it is not a CogVideoX pipeline
 * (found before any weight is downloaded); when the disk is too small; when the network fails.
 */
export async function* resolveModelPath(path: string, options: HubOptions = {}): AsyncGenerator<HubEvent, string> {
  const place = placeOf(path, options);
  if (place === undefined) return snapshotPath(path);
  const { id, folder } = place;
  const complete = completeRecord(folder);
  if (complete !== undefined && unverifiedFiles(folder, complete).length === 0) return folder;
  const server = new HubServer(path, id, options);
  // Before the folder is made, so that an id that is not there leaves nothing behind.
  const listed = readRecord(folder) ?? await server.list();
  const mirror = options.endpoint === undefined ? Deno.env.get("HF_ENDPOINT") : undefined;
  if (mirror !== undefined) yield { type: "status", message: `${path} comes from ${mirror}, as HF_ENDPOINT says` };
  using _lock = yield* waitForLock(folder, path, { signal: options.signal, isNeeded: complete === undefined });
  const known = readRecord(folder);
  const record = known ?? listed;
  if (known === undefined) await writeRecord(folder, record);
  yield* removeDamaged(folder, record);
  yield* downloadFiles(server, folder, record);
  return folder;
}

/** Hashes what is not known to be right and removes what is not, so that it is downloaded again. */
async function* removeDamaged(folder: string, record: HubRecord): AsyncGenerator<HubEvent> {
  const unverified = unverifiedFiles(folder, record);
  if (unverified.length === 0) return;
  const gigabytes = unverified.reduce((sum, { size }) => sum + size, 0) / 1e9;
  yield {
    type: "status",
    message: `checking ${unverified.length} files of ${record.model} (${gigabytes.toFixed(1)} GB)`,
  };
  for (const { path } of await verifyFiles(folder, unverified)) {
    yield { type: "status", message: `${join(folder, path)} is damaged and is downloaded again` };
    fileOperations.remove(join(folder, path));
  }
}

/** A downloaded model that was looked at, see {@linkcode recheckModels}. */
export interface CheckedModel {
  readonly model: string;
  readonly folder: string;
  readonly files: number;
  /** Bytes that were hashed. */
  readonly bytes: number;
  /** Paths of files that are missing, cut or changed. The next run that wants the model downloads them again. */
  readonly damaged: readonly string[];
}

/** Hashes every file of every downloaded model, whatever is known of it: a disk can change bytes without a trace. */
export async function* recheckModels(cacheFolder: string = defaultCache()): AsyncGenerator<CheckedModel> {
  for (const name of existsSync(cacheFolder) ? readdirSync(cacheFolder).sort() : []) {
    const folder = join(cacheFolder, name);
    const record = readRecord(folder);
    if (record === undefined) continue;
    const missing = missingFiles(folder, record);
    const present = record.files.filter((file) => !missing.includes(file));
    const damaged = [...missing, ...await verifyFiles(folder, present)].map(({ path }) => path);
    const bytes = present.reduce((sum, { size }) => sum + size, 0);
    yield { model: record.model, folder, files: record.files.length, bytes, damaged };
  }
}

/**
 * Takes a folder for this process, waiting for another one that is filling it. A complete folder may be one that this
 * user can't write.
 */
async function* waitForLock(
  folder: string,
  model: string,
  { signal, isNeeded }: { readonly signal: AbortSignal | undefined; readonly isNeeded: boolean },
): AsyncGenerator<HubEvent, Disposable> {
  let file: Deno.FsFile;
  try {
    mkdirSync(folder, { recursive: true });
    file = Deno.openSync(join(folder, ".lock"), { write: true, create: true, mode: 0o600 });
  } catch (error) {
    if (!isNeeded) return { [Symbol.dispose]: () => {} };
    throw fileError(error, "lock", folder);
  }
  try {
    for (let asked = false; !file.tryLockSync(true); asked = true) {
      if (!asked) yield { type: "status", message: `waiting for another process that downloads ${model}` };
      await sleep(LOCK_INTERVAL, undefined, signal && { signal });
    }
    return {
      [Symbol.dispose]() {
        // Closing alone leaves it locked while a program that another thread starts holds a copy of the file.
        file.unlockSync();
        file.close();
      },
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Small files first, so that a repository which is no CogVideoX pipeline is found out before its weights are
 * downloaded.
 */
async function* downloadFiles(server: HubServer, folder: string, record: HubRecord): AsyncGenerator<HubEvent> {
  const missing = missingFiles(folder, record);
  const sizeOf = (files: readonly HubFile[]) => files.reduce((sum, { size }) => sum + size, 0);
  const kept = missing.reduce((sum, { path }) => sum + partBytes(join(folder, path)), 0);
  requireFreeBytes(folder, Math.max(0, sizeOf(missing) - kept));
  const total = sizeOf(record.files);
  let done = total - sizeOf(missing);
  const isLarge = ({ path }: HubFile) => isWeight(path);
  for (const part of [missing.filter((file) => !isLarge(file)), missing.filter(isLarge)]) {
    for (const file of part) {
      for await (const bytes of server.download(record.commit, file, join(folder, file.path))) {
        yield { type: "download", model: server.model, file: file.path, done: done + bytes, total };
      }
      await rememberDownload(folder, file);
      done += file.size;
    }
    openModelFolder(folder);
  }
}
