/**
 * Models by hub id: `owner/name` or `owner/name@revision` in place of a folder. The files a CogVideoX pipeline needs
 * are downloaded once into a folder of the user's cache, from one commit; afterwards no network is needed.
 */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError, UserErrors } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { type Checksum, download, partBytes } from "../../io/download.ts";
import { fileError, requireFreeBytes } from "../../io/file_operations.ts";
import { getJson, HttpError, type Page, type RequestOptions, type RetryOptions } from "../../io/http.ts";
import { readJsonObject } from "../../io/json_file.ts";
import { openModelFolder, requiredFiles } from "./model_folder.ts";

const DEFAULT_ENDPOINT = "https://huggingface.co";

/** Says in a folder of the cache what belongs there. */
const RECORD_FILE = "download.json";

/** Milliseconds between two looks at a lock that another process holds. */
const LOCK_INTERVAL = 500;

/** What the weights of the three networks are called; a number in the name is that of a shard. */
const WEIGHTS =
  /^(transformer\/diffusion_pytorch_model|vae\/diffusion_pytorch_model|text_encoder\/model)(-\d{5}-of-\d{5})?\.safetensors$/;

/**
 * Everything else that training and sampling read. Weights in other formats and precisions lie beside them in many
 * repositories.
 */
const SMALL_FILES =
  /^(model_index\.json|(transformer|vae|text_encoder)\/(config|\w+\.safetensors\.index)\.json|tokenizer\/(\w+\.json|spiece\.model)|scheduler\/scheduler_config\.json)$/;

/** A model on the hub. */
export interface HubId {
  readonly owner: string;
  readonly name: string;
  /** Branch, tag or commit. */
  readonly revision: string | undefined;
}

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
export interface HubOptions extends RetryOptions {
  /** Address of the hub or of a mirror. Default: the environment variable HF_ENDPOINT, else the hub's own. */
  readonly endpoint?: string;
  /** Where models are kept. Default `~/.cache/cogtune/models`. */
  readonly cacheFolder?: string;
  /** Access token, for models that ask for one. Default: the environment variable HF_TOKEN. */
  readonly token?: string | undefined;
}

/** One file of a model. */
interface HubFile {
  readonly path: string;
  readonly size: number;
  readonly checksum: Checksum;
}

/** What a folder of the cache holds once it is complete. */
interface HubRecord {
  readonly model: string;
  readonly endpoint: string;
  /** The commit all files are from. */
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** Reads `owner/name` or `owner/name@revision`; undefined for everything else, such as a path. */
export function parseHubId(text: string): HubId | undefined {
  const [, owner, name, revision] = /^(\w[\w.-]*)\/(\w[\w.-]*)(?:@(\w[\w./-]*))?$/.exec(text) ?? [];
  return owner === undefined ? undefined : { owner, name: name!, revision };
}

/** The folder of the cache for a hub id; undefined when `path` exists or is no hub id. */
function placeOf(
  path: string,
  { cacheFolder = join(homedir(), ".cache", "cogtune", "models") }: HubOptions,
): { readonly id: HubId; readonly folder: string } | undefined {
  const id = existsSync(path) ? undefined : parseHubId(path);
  if (id === undefined) return undefined;
  const { owner, name, revision } = id;
  const version = revision === undefined ? "" : `@${revision.replaceAll("/", "--")}`;
  return { id, folder: join(cacheFolder, `${owner}--${name}${version}`) };
}

function isComplete(folder: string): boolean {
  const record = readRecord(folder);
  return record !== undefined && missingFiles(folder, record).length === 0;
}

/**
 * The folder of a model that is on this machine: `path` itself when it exists or is no hub id, otherwise that of the
 * cache; undefined when it is not downloaded.
 */
export function findModelPath(path: string, options: HubOptions = {}): string | undefined {
  const place = placeOf(path, options);
  if (place === undefined) return path;
  return isComplete(place.folder) ? place.folder : undefined;
}

/**
 * As {@linkcode findModelPath}.
 *
 * @throws {UserError} when it is not downloaded.
 */
export function localModelPath(path: string, options: HubOptions = {}): string {
  const found = findModelPath(path, options);
  if (found !== undefined) return found;
  throw new UserError(
    `"${path}" is no folder, and no model of this id is downloaded`,
    "train or sample with it, or give a folder",
  );
}

/**
 * As {@linkcode localModelPath}, downloading what is missing. An interrupted download continues where it stopped.
 * Several processes may ask for one model: one downloads, the others wait.
 *
 * @throws {UserError} when there is no such model, it is not open to this user, or it is not a CogVideoX pipeline
 * (found before any weight is downloaded); when the disk is too small; when the network fails.
 */
export async function* resolveModelPath(path: string, options: HubOptions = {}): AsyncGenerator<HubEvent, string> {
  const place = placeOf(path, options);
  if (place === undefined) return path;
  const { id, folder } = place;
  if (isComplete(folder)) return folder;
  const hub = new Hub(path, id, options);
  // Before the folder is made, so that an id that is not there leaves nothing behind.
  const listed = readRecord(folder) ?? await hub.list();
  using _lock = yield* waitForLock(folder, path, options.signal);
  const known = readRecord(folder);
  const record = known ?? listed;
  if (known === undefined) await writeFileAtomic(join(folder, RECORD_FILE), JSON.stringify(record, null, 1) + "\n");
  yield* downloadFiles(hub, folder, record);
  return folder;
}

/** Takes a folder for this process, waiting for another one that is filling it. */
async function* waitForLock(
  folder: string,
  model: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<HubEvent, Disposable> {
  let file: Deno.FsFile;
  try {
    mkdirSync(folder, { recursive: true });
    file = Deno.openSync(join(folder, ".lock"), { write: true, create: true });
  } catch (error) {
    throw fileError(error, "lock", folder);
  }
  try {
    for (let asked = false; !file.tryLockSync(true); asked = true) {
      if (!asked) yield { type: "status", message: `waiting for another process that downloads ${model}` };
      await sleep(LOCK_INTERVAL, undefined, signal && { signal });
    }
    return { [Symbol.dispose]: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

function readRecord(folder: string): HubRecord | undefined {
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

/** Files that are not there in their full size. Only whole, verified files have their name, so the size tells. */
function missingFiles(folder: string, { files }: HubRecord): HubFile[] {
  return files.filter(({ path, size }) => statSync(join(folder, path), { throwIfNoEntry: false })?.size !== size);
}

/**
 * Small files first, so that a repository which is no CogVideoX pipeline is found out before its weights are
 * downloaded.
 */
async function* downloadFiles(hub: Hub, folder: string, record: HubRecord): AsyncGenerator<HubEvent> {
  const missing = missingFiles(folder, record);
  const sizeOf = (files: readonly HubFile[]) => files.reduce((sum, { size }) => sum + size, 0);
  const kept = missing.reduce((sum, { path }) => sum + partBytes(join(folder, path)), 0);
  requireFreeBytes(folder, Math.max(0, sizeOf(missing) - kept));
  const total = sizeOf(record.files);
  let done = total - sizeOf(missing);
  const isWeight = ({ path }: HubFile) => WEIGHTS.test(path);
  for (const part of [missing.filter((file) => !isWeight(file)), missing.filter(isWeight)]) {
    for (const file of part) {
      for await (const bytes of hub.download(record.commit, file, join(folder, file.path))) {
        yield { type: "download", model: hub.model, file: file.path, done: done + bytes, total };
      }
      done += file.size;
    }
    openModelFolder(folder);
  }
}

function isNeeded(path: string): boolean {
  return SMALL_FILES.test(path) || WEIGHTS.test(path);
}

/** One model on one hub. */
class Hub {
  readonly #endpoint: string;
  readonly #request: RequestOptions;
  readonly #hasToken: boolean;

  constructor(readonly model: string, readonly id: HubId, options: HubOptions) {
    const { endpoint = Deno.env.get("HF_ENDPOINT") ?? DEFAULT_ENDPOINT, token = Deno.env.get("HF_TOKEN") } = options;
    const url = URL.parse(endpoint);
    const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(url?.hostname ?? "");
    if (url?.protocol !== "https:" && !(url?.protocol === "http:" && isLocal)) {
      throw new UserError(`The address of the hub is "${endpoint}": expected one that begins with https://`);
    }
    this.#endpoint = endpoint.replace(/\/$/, "");
    this.#hasToken = token !== undefined && token !== "";
    this.#request = this.#hasToken ? { ...options, headers: { authorization: `Bearer ${token}` } } : options;
  }

  /** The needed files of the newest commit of the revision. */
  async list(): Promise<HubRecord> {
    const { id: { revision = "main" }, model } = this;
    const { sha: commit } = (await this.#json(`revision/${encodeURIComponent(revision)}`))[0] as { sha?: unknown };
    if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit)) {
      throw new UserError(`${this.#endpoint} does not tell the commit of "${model}": is it a model hub?`);
    }
    const files = (await this.#json(`tree/${commit}?recursive=true`)).flatMap((entry) => this.#fileOf(entry) ?? []);
    const paths = new Set(files.map(({ path }) => path));
    const problems = requiredFiles.filter((path) => !paths.has(path)).map((path) => `${path} is missing`);
    for (const folder of ["transformer", "vae", "text_encoder"]) {
      const hasWeights = files.some(({ path }) => path.startsWith(folder) && WEIGHTS.test(path));
      if (!hasWeights) problems.push(`${folder} has no weights as safetensors`);
    }
    if (problems.length === 0) return { model, endpoint: this.#endpoint, commit, files };
    throw new UserErrors(
      `"${model}" is not a CogVideoX pipeline in diffusers layout`,
      problems,
      "give the id of the whole pipeline; weights in other formats have to be converted first",
    );
  }

  /** All pages of an answer of the API. */
  async #json(query: string): Promise<unknown[]> {
    const { owner, name } = this.id;
    const entries: unknown[] = [];
    const first = `${this.#endpoint}/api/models/${owner}/${name}/${query}`;
    for (let url: string | undefined = first; url !== undefined;) {
      const page: Page = await this.#explained(getJson(url, this.#request));
      entries.push(...[page.json].flat());
      url = page.next;
    }
    return entries;
  }

  /**
   * A needed file of a listing; undefined for everything else. Large files carry their SHA-256, others their git object
   * id.
   */
  #fileOf(entry: unknown): HubFile | undefined {
    const { type, path, size, oid, lfs } = Object(entry) as Record<string, unknown>;
    if (type !== "file" || typeof path !== "string" || !isNeeded(path)) return undefined;
    const { oid: sha256 } = Object(lfs) as { oid?: unknown };
    const [algorithm, value, digits] = sha256 === undefined
      ? ["git", oid, 40] as const
      : ["sha256", sha256, 64] as const;
    if (!Number.isSafeInteger(size) || typeof value !== "string" || !new RegExp(`^[0-9a-f]{${digits}}$`).test(value)) {
      throw new UserError(
        `${this.#endpoint} lists ${path} of "${this.model}" without size or hash: is it a model hub?`,
      );
    }
    return { path, size: size as number, checksum: { algorithm, value } };
  }

  async *download(commit: string, { path, size, checksum }: HubFile, target: string): AsyncGenerator<number> {
    const { owner, name } = this.id;
    const url = `${this.#endpoint}/${owner}/${name}/resolve/${commit}/${path}`;
    const bytes = download(url, target, { ...this.#request, size, checksum });
    for (;;) {
      const { done, value } = await this.#explained(bytes.next());
      if (done) return;
      yield value;
    }
  }

  /** Tells what a refusal means for a person who wants this model. */
  async #explained<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      throw this.#refusal(error);
    }
  }

  #refusal(error: HttpError): UserError {
    const { model } = this;
    const page = `${this.#endpoint}/${this.id.owner}/${this.id.name}`;
    if (error.status === 404) {
      return new UserError(
        `There is neither a folder "${model}" nor a model of this id (${error.message})`,
        "check the spelling: a folder, owner/name or owner/name@revision",
      );
    }
    if (error.status !== 401 && error.status !== 403) return error;
    const what = `The hub does not give "${model}" to ${
      this.#hasToken ? "the owner of the token in HF_TOKEN" : "everyone"
    }`;
    return new UserError(
      `${what} (${error.message})`,
      error.code === "RepoNotFound"
        ? "check the spelling; for a private model, put an access token into the environment variable HF_TOKEN"
        : `accept its terms at ${page}${
          this.#hasToken ? "" : " and put an access token into the environment variable HF_TOKEN"
        }`,
    );
  }
}
