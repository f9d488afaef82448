/**
 * Files for a repository of the hub, in one commit. The hub's own library speaks its protocol (large files apart from
 * the commit, in parts where they exceed 5 GB); around it stands what it leaves open: where the token may go, which
 * failures are tried again, and what a refusal means.
 */
import { pathToFileURL } from "node:url";
import { messageOf, UserError } from "../../errors.ts";
import {
  collectShort,
  Interruption,
  mayPass,
  reasonOf,
  Retries,
  retryAfter,
  type RetryOptions,
  Watchdog,
} from "../../io/http.ts";
import { type HubAccess, hubAccess, type ServerOptions, withoutToken } from "./hub_server.ts";

/**
 * Milliseconds without progress after which an upload has stalled. What the socket has taken is out of sight: a system
 * buffers 4.5 MB, which a line of 50 KB/s takes 90 s to send.
 */
const STALL = 90_000;

/** A file of the repository. */
export interface UploadedFile {
  /** Path there, with forward slashes. */
  readonly name: string;
  /** Path here, or what the file holds. */
  readonly content: { readonly path: string } | { readonly text: string };
}

/** Options of {@linkcode uploadFiles}. */
export interface UploadOptions extends ServerOptions {
  /** Whether the repository is made private when it does not exist; one that exists stays as it is. */
  readonly isPrivate: boolean;
  /** First line of the commit. */
  readonly title: string;
}

/** What the library throws for an answer that is an error. */
interface RefusedError extends Error {
  readonly statusCode: number;
}

/**
 * Which hub is written to, and as whom.
 *
 * @throws {UserError} without a token that the hub could know.
 */
export function writeAccess(options: ServerOptions = {}): HubAccess & { readonly token: string } {
  const { endpoint, token } = hubAccess(options);
  const hint = `make an access token that may write at ${endpoint}/settings/tokens and put it into the environment ` +
    "variable HF_TOKEN";
  if (token === undefined) throw new UserError("Uploading to a hub needs an access token: HF_TOKEN is not set", hint);
  // The library refuses others too, but by an error of the program.
  if (!/^hf_\w+$/.test(token)) {
    throw new UserError('HF_TOKEN is no access token: it must be "hf_" and letters or digits', hint);
  }
  return { endpoint, token };
}

/**
 * Adds files to the main branch of a model repository, which is made when missing, or replaces them; others there stay.
 * Tried again after interruptions: large files that have arrived are not sent twice.
 *
 * @param repo as `owner/name`.
 * @returns the address of the repository.
 * @throws {UserError} when the hub refuses the token or the files, or cannot be reached; nothing is committed then.
 */
export async function uploadFiles(
  repo: string,
  files: readonly UploadedFile[],
  options: UploadOptions,
): Promise<string> {
  const access = writeAccess(options);
  const retries = new Retries(options);
  for (;;) {
    try {
      await send(repo, files, options, access);
      return `${access.endpoint}/${repo}`;
    } catch (error) {
      options.signal?.throwIfAborted();
      await retries.after(explained(error, repo, access)).catch((error) => {
        throw withoutToken(error, access);
      });
    }
  }
}

async function send(
  repo: string,
  files: readonly UploadedFile[],
  options: UploadOptions,
  { endpoint, token }: HubAccess & { readonly token: string },
): Promise<void> {
  // 1 MB of program that no other command needs.
  const { commit, createRepo, repoExists } = await import("@huggingface/hub");
  const { isPrivate, title, signal } = options;
  const hub = { repo, hubUrl: endpoint, accessToken: token, fetch: guardedFetch(endpoint, options) };
  if (!await repoExists(hub)) await createRepo({ ...hub, visibility: isPrivate ? "private" : "public" });
  await commit({
    ...hub,
    title,
    // The other way, in deduplicated chunks, asks a third host for leave with a token of its own.
    useXet: false,
    ...(signal === undefined ? {} : { abortSignal: signal }),
    operations: files.map(({ name, content }) => ({
      operation: "addOrUpdate",
      path: name,
      content: "path" in content ? pathToFileURL(content.path) : new Blob([content.text]),
    })),
  });
}

/** Bytes that tell of every piece that is taken. `fetch` still knows their number, without which stores refuse them. */
class WatchedBlob extends Blob {
  readonly #bytes: Blob;
  readonly #taken: (bytes: number) => void;

  constructor(bytes: Blob, taken: (bytes: number) => void) {
    super();
    this.#bytes = bytes;
    this.#taken = taken;
  }

  override get size(): number {
    return this.#bytes.size;
  }

  override stream(): ReturnType<Blob["stream"]> {
    return this.#bytes.stream().pipeThrough(
      new TransformStream({
        transform: (chunk, controller) => {
          this.#taken(chunk.length);
          controller.enqueue(chunk);
        },
      }),
    );
  }
}

/**
 * `fetch` that sends credentials to the hub alone and follows no redirect: the body of a request may be gigabytes, and
 * the hub redirects only what has another name now. Large files go to addresses that the hub signs; those are secret,
 * so that errors name their host and path. A request on which nothing moves is given up, whether it waits for the
 * server to take bytes or for its answer, which is read to its end.
 */
function guardedFetch(endpoint: string, options: RetryOptions): typeof fetch {
  const hub = new URL(endpoint);
  return async (input, init = {}) => {
    const target = new URL(input instanceof Request ? input.url : input);
    const place = `${target.origin}${target.pathname}`;
    if (target.protocol !== "https:" && target.protocol !== hub.protocol) {
      throw new UserError(
        `${endpoint} sends files to ${place}, which is not encrypted: refused`,
        "check HF_ENDPOINT: is it a model hub?",
      );
    }
    const headers = new Headers(init.headers);
    if (target.origin !== hub.origin) headers.delete("authorization");
    const signal = init.signal ?? options.signal;
    using watchdog = new Watchdog(`${place} has neither taken nor sent anything`, { stall: STALL, ...options, signal });
    const body = init.body instanceof Blob ? new WatchedBlob(init.body, (bytes) => watchdog.moved(bytes)) : init.body;
    let response: Response, answer: Blob;
    try {
      response = await fetch(target, {
        ...init,
        signal: watchdog.signal,
        headers,
        redirect: "manual",
        ...(body === undefined ? {} : { body }),
      });
      answer = await collectShort(chunksOf(response, watchdog), place);
    } catch (error) {
      if (isClear(error)) throw error;
      throw new Interruption(`${place}: ${reasonOf(error).replaceAll(target.href, place)}`);
    }
    const { status, statusText } = response;
    const isRefusal = target.origin === hub.origin && status >= 400 && !mayPass(status);
    if (status < 300 || isRefusal) return readAnswer(response, answer);
    if (mayPass(status)) {
      throw new Interruption(
        `${place} answers ${status} ${statusText}`.trimEnd(),
        retryAfter(response.headers.get("retry-after")),
      );
    }
    if (status >= 400) {
      throw new UserError(
        `${place}, where the hub keeps large files, answers ${status} ${statusText}`.trimEnd(),
        "try again: the hub signs such addresses for a while only",
      );
    }
    throw new UserError(
      `${place} redirects to ${response.headers.get("location") ?? "nowhere"}`,
      "the repository may have been renamed: give the name that it has",
    );
  };
}

/** The body of an answer as it arrives. */
async function* chunksOf({ body }: Response, watchdog: Watchdog): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const chunk of body ?? []) {
    watchdog.moved(chunk.length);
    yield chunk;
  }
}

/** An answer whose body was read, as if it were still to come; errors of the library name its address. */
function readAnswer({ status, statusText, headers, url }: Response, body: Blob): Response {
  const read = new Response(body.size === 0 ? null : body, { status, statusText, headers });
  return Object.defineProperty(read, "url", { value: url });
}

/** Whether an error says by itself what is wrong, or that waiting may help. */
function isClear(error: unknown): boolean {
  return error instanceof UserError || error instanceof Interruption || error instanceof Deno.errors.NotCapable;
}

/** What a failure means for a person who wants these files there, without the token, whatever the server says. */
function explained(error: unknown, repo: string, { endpoint, token }: HubAccess): unknown {
  if (isClear(error)) return error;
  const message = messageOf(error).replaceAll(token!, "(token)");
  const { statusCode } = Object(error) as Partial<RefusedError>;
  if (statusCode === 401 || statusCode === 403) {
    return new UserError(
      `The hub does not let the owner of the token in HF_TOKEN write to "${repo}" (${statusCode}: ${message})`,
      `make one that may write to this repository at ${endpoint}/settings/tokens, and check the owner's name`,
    );
  }
  return new UserError(
    `${endpoint} does not take the files for "${repo}": ${message}`,
    statusCode === undefined ? "check HF_ENDPOINT: is it a model hub?" : "nothing was changed there; try again",
  );
}
