/** The hub that models come from: what a model consists of there, its bytes, and what a refusal means. */
import { UserError, UserErrors } from "../../errors.ts";
import { download } from "../../io/download.ts";
import { getJson, HttpError, type Page, type RequestOptions, type RetryOptions } from "../../io/http.ts";
import { preferredVariant } from "../../io/safetensors/weight_files.ts";
import { BASE_NAMES, type HubFile, type HubRecord, isNeeded, isWeight, weightName } from "./hub_record.ts";
import { missingParts } from "./model_folder.ts";

const DEFAULT_ENDPOINT = "https://huggingface.co";

const CHECK_ENDPOINT = "check HF_ENDPOINT: is it a model hub?";

/** A listing has a page per thousand files; a model of this kind has a few dozen. */
const MOST_PAGES = 50;

/** A model on the hub. */
export interface HubId {
  readonly owner: string;
  readonly name: string;
  /** Branch, tag or commit. */
  readonly revision: string | undefined;
}

/** Which hub is asked, and as whom. */
export interface ServerOptions extends RetryOptions {
  /** Address of the hub or of a mirror. Default: the environment variable HF_ENDPOINT, else the hub's own. */
  readonly endpoint?: string;
  /** Access token, for models that ask for one. Default: the environment variable HF_TOKEN. */
  readonly token?: string | undefined;
}

/** An address without a slash at its end, and who asks there. */
export interface HubAccess {
  readonly endpoint: string;
  readonly token: string | undefined;
}

/**
 * Which hub is meant, by options and environment.
 *
 * @throws {UserError} when its address would send a token unencrypted to another machine, or holds a password, which
 * every message would show; for a token that no request can hold.
 */
export function hubAccess(options: ServerOptions): HubAccess {
  const { endpoint = Deno.env.get("HF_ENDPOINT") ?? DEFAULT_ENDPOINT } = options;
  // A token that was read from a file may bring the end of its line along.
  const token = (options.token ?? Deno.env.get("HF_TOKEN"))?.trim();
  if (!/^[\x21-\x7e]*$/.test(token ?? "")) {
    throw new UserError(
      "HF_TOKEN is no access token: it has spaces, line breaks or letters that no request can hold",
      "copy the token again, without what stands around it",
    );
  }
  const url = URL.parse(endpoint);
  if (url !== null && (url.username !== "" || url.password !== "")) {
    throw new UserError(
      `The address of the hub, at ${url.host}, holds a user name or a password`,
      "leave both out of HF_ENDPOINT and put an access token into HF_TOKEN",
    );
  }
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(url?.hostname ?? "");
  if (url?.protocol !== "https:" && !(url?.protocol === "http:" && isLocal)) {
    throw new UserError(
      `The address of the hub is "${endpoint}": expected one that begins with https://`,
      "correct the environment variable HF_ENDPOINT, or unset it",
    );
  }
  return { endpoint: endpoint.replace(/\/$/, ""), token: token === "" ? undefined : token };
}

/** An error as it may be shown: a server may send the token back in whatever it says. */
export function withoutToken(error: unknown, { token }: HubAccess): unknown {
  if (token === undefined || !(error instanceof UserError)) return error;
  // Host names are lower-cased.
  const pattern = new RegExp(RegExp.escape(token), "gi");
  if (!pattern.test(error.message)) return error;
  return new UserError(error.summary.replaceAll(pattern, "(token)"), error.hint?.replaceAll(pattern, "(token)"));
}

/** Leaves of every part the weights that are loaded when no variant is asked for, or the best variant there is. */
function withoutVariants(files: readonly HubFile[]): HubFile[] {
  const partOf = (path: string) => path.slice(0, path.indexOf("/"));
  const taken = new Map(
    Object.keys(BASE_NAMES).map((part) => {
      const variants = files.filter(({ path }) => partOf(path) === part && isWeight(path));
      return [part, preferredVariant(variants.map(({ path }) => weightName(path)!.variant))];
    }),
  );
  return files.filter(({ path }) => {
    const name = weightName(path);
    return name === undefined || name.variant === taken.get(partOf(path));
  });
}

/** One model on one hub. */
export class HubServer {
  readonly #access: HubAccess;
  readonly #request: RequestOptions;

  constructor(readonly model: string, readonly id: HubId, options: ServerOptions) {
    this.#access = hubAccess(options);
    const { token } = this.#access;
    this.#request = token === undefined ? options : { ...options, headers: { authorization: `Bearer ${token}` } };
  }

  get #endpoint(): string {
    return this.#access.endpoint;
  }

  get #hasToken(): boolean {
    return this.#access.token !== undefined;
  }

  /** The needed files of the newest commit of the revision. */
  async list(): Promise<HubRecord> {
    const { id: { revision = "main" }, model } = this;
    const { sha: commit } = (await this.#json(`revision/${encodeURIComponent(revision)}`))[0] as { sha?: unknown };
    if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit)) {
      throw new UserError(`${this.#endpoint} does not tell the commit of "${model}"`, CHECK_ENDPOINT);
    }
    const listed = (await this.#json(`tree/${commit}?recursive=true`)).flatMap((entry) => this.#fileOf(entry) ?? []);
    const files = withoutVariants(listed);
    const paths = new Set(files.map(({ path }) => path));
    const problems = missingParts((path) => paths.has(path));
    for (const folder of Object.keys(BASE_NAMES)) {
      const hasWeights = files.some(({ path }) => path.startsWith(`${folder}/`) && isWeight(path));
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
    let pages = 0;
    for (let url: string | undefined = first; url !== undefined;) {
      if (++pages > MOST_PAGES) {
        throw new UserError(`${this.#endpoint} lists the files of "${this.model}" without end`, CHECK_ENDPOINT);
      }
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
    if (
      !Number.isSafeInteger(size) || size as number < 0 || typeof value !== "string" ||
      !new RegExp(`^[0-9a-f]{${digits}}$`).test(value)
    ) {
      throw new UserError(
        `${this.#endpoint} lists ${path} of "${this.model}" without size or hash`,
        CHECK_ENDPOINT,
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
      throw withoutToken(error instanceof HttpError ? this.#refusal(error) : error, this.#access);
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
