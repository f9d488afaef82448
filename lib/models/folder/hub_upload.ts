/**
 * Files for a repository of the hub, in one commit. The hub's own library speaks its protocol (large files apart from
 * the commit, in parts where they exceed 5 GB); around it stands what it leaves open: where the token may go, which
 * failures are tried again, and what a refusal means.
 */
import { pathToFileURL } from "node:url";
import { UserError } from "../../errors.ts";
import { Interruption, mayPass, Retries, retryAfter } from "../../io/http.ts";
import { type HubAccess, hubAccess, type ServerOptions } from "./hub_server.ts";

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
      await retries.after(explained(error, repo, access));
    }
  }
}

async function send(
  repo: string,
  files: readonly UploadedFile[],
  { isPrivate, title, signal }: UploadOptions,
  { endpoint, token }: HubAccess & { readonly token: string },
): Promise<void> {
  // 1 MB of program that no other command needs.
  const { commit, createRepo, repoExists } = await import("@huggingface/hub");
  const hub = { repo, hubUrl: endpoint, accessToken: token, fetch: guardedFetch(endpoint, signal) };
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

/**
 * `fetch` that sends credentials to the hub alone and follows no redirect: the body of a request may be gigabytes, and
 * the hub redirects only what has another name now. Large files go to addresses that the hub signs; those are secret,
 * so that errors name their host and path.
 */
function guardedFetch(endpoint: string, signal: AbortSignal | undefined): typeof fetch {
  const hub = new URL(endpoint);
  return async (input, init = {}) => {
    const target = new URL(input instanceof Request ? input.url : input);
    const place = `${target.origin}${target.pathname}`;
    if (target.protocol !== "https:" && target.protocol !== hub.protocol) {
      throw new UserError(`${endpoint} sends files to ${place}, which is not encrypted: refused`);
    }
    const headers = new Headers(init.headers);
    if (target.origin !== hub.origin) headers.delete("authorization");
    let response: Response;
    try {
      response = await fetch(target, { signal: signal ?? null, ...init, headers, redirect: "manual" });
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      const message = error instanceof Error ? error.message : String(error);
      throw new Interruption(`${place}: ${message.replaceAll(target.href, place)}`);
    }
    const { status, statusText } = response;
    const isRefusal = target.origin === hub.origin && status >= 400 && !mayPass(status);
    if (status < 300 || isRefusal) return response;
    await response.body?.cancel();
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

/** What a failure means for a person who wants these files there, without the token, whatever the server says. */
function explained(error: unknown, repo: string, { endpoint, token }: HubAccess): unknown {
  if (error instanceof UserError || error instanceof Interruption || error instanceof Deno.errors.NotCapable) {
    return error;
  }
  const message = (error instanceof Error ? error.message : String(error)).replaceAll(token!, "(token)");
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
