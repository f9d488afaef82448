/** Requests to web servers: redirects that leak nothing, errors that say whether trying again can help, and retries. */
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf, UserError } from "../errors.ts";

/** Redirects followed at most. */
const MOST_REDIRECTS = 10;

/** Longest pause between two attempts, also when a server asks for a longer one, milliseconds. */
const LONGEST_PAUSE = 60_000;

/** Longest JSON document: a thousand files of a listing take 300 KB. */
const MOST_JSON_BYTES = 16 << 20;

/** A connection moves at least this many bytes between two checks, or it counts as stalled. */
const LEAST_BYTES = 1024;

/** What helps when a server does what no hub does. */
const ASK_THE_RIGHT_HUB = "check HF_ENDPOINT and the proxies on the way: is it a model hub?";

/** An answer that trying again would not change. */
export class HttpError extends UserError {
  override name = "HttpError";

  constructor(
    message: string,
    /** HTTP status. */
    readonly status: number,
    /** What the server calls the reason, in its header X-Error-Code. */
    readonly code: string | undefined,
  ) {
    super(message, ASK_THE_RIGHT_HUB);
  }
}

/** A failure that may pass: a broken connection, an overloaded server. */
export class Interruption extends Error {
  override name = "Interruption";

  constructor(
    message: string,
    /** How long the server asks to wait, milliseconds. */
    readonly pause?: number,
  ) {
    super(message);
  }
}

/** How patient a request is. */
export interface RetryOptions {
  /** Failures in a row without progress after which it is given up. Default 6. */
  readonly attempts?: number;
  /** First pause between attempts, milliseconds; it doubles each time. Default 500. */
  readonly backoff?: number;
  /** Milliseconds in which at least 1 KiB must arrive, or leave in an upload. Default 30,000; 90,000 in an upload. */
  readonly stall?: number;
  readonly signal?: AbortSignal | undefined;
}

/** What a request sends. */
export interface RequestOptions extends RetryOptions {
  /** Headers for the server of the address alone, such as credentials; a server it redirects to does not get them. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Aborts a connection on which too little moves. */
export class Watchdog implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  #bytes = LEAST_BYTES;

  /** `complaint` is what is said of a connection that has stalled, such as "URL has sent nothing". */
  constructor(complaint: string, { stall = 30_000, signal }: RetryOptions) {
    this.#timer = setInterval(() => {
      if (this.#bytes < LEAST_BYTES) {
        const some = this.#bytes === 0 ? "" : ` but ${this.#bytes} bytes`;
        this.#controller.abort(new Interruption(`${complaint}${some} for ${stall / 1000} s`));
      }
      this.#bytes = 0;
    }, stall);
    this.signal = signal === undefined ? this.#controller.signal : AbortSignal.any([signal, this.#controller.signal]);
  }

  readonly signal: AbortSignal;

  /** Bytes have arrived or left. */
  moved(bytes: number): void {
    this.#bytes += bytes;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Sends a GET request and follows redirects by hand, because credentials are for the first server only. */
async function follow(
  url: string,
  { headers, range, signal }: { headers: RequestOptions["headers"]; range: number; signal: AbortSignal },
): Promise<Response> {
  let target = new URL(url);
  const { origin, protocol } = target;
  for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
    const response = await fetch(target, {
      redirect: "manual",
      signal,
      headers: {
        // Compressed bytes could not be resumed in the middle.
        "accept-encoding": "identity",
        ...(target.origin === origin ? headers : {}),
        ...(range > 0 ? { range: `bytes=${range}-` } : {}),
      },
    });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    await response.body?.cancel();
    target = new URL(location, target);
    if (target.protocol !== "https:" && target.protocol !== protocol) {
      throw new UserError(
        `${url} redirects to ${target.protocol}//${target.host}, which is not encrypted: refused`,
        ASK_THE_RIGHT_HUB,
      );
    }
  }
  throw new UserError(`${url} redirects more than ${MOST_REDIRECTS} times`, ASK_THE_RIGHT_HUB);
}

/** Seconds or a date, as milliseconds from now. */
export function retryAfter(text: string | null): number | undefined {
  if (text === null) return undefined;
  const milliseconds = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.max(0, milliseconds);
}

/** Statuses after which the same request may succeed: time-out, too many requests, and faults of the server. */
export function mayPass(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** The answer to a request. Dispose it when its body is no longer wanted. */
export class Answer implements Disposable {
  readonly #watchdog: Watchdog;

  private constructor(readonly url: string, readonly response: Response, watchdog: Watchdog) {
    this.#watchdog = watchdog;
  }

  /**
   * Sends one GET request; with `range` above 0, for the bytes from there on, to which 416 is an answer too.
   *
   * @throws {HttpError} for a status that will not change.
   * @throws {Interruption} for everything that may pass.
   */
  static async get(url: string, options: RequestOptions & { readonly range?: number } = {}): Promise<Answer> {
    const { headers, range = 0 } = options;
    const watchdog = new Watchdog(`${url} has sent nothing`, options);
    try {
      const response = await follow(url, { headers, range, signal: watchdog.signal });
      const { ok, status } = response;
      if (ok || (status === 416 && range > 0)) return new Answer(url, response, watchdog);
      await response.body?.cancel();
      const message = `${url} answers ${status} ${response.statusText}`.trimEnd();
      if (mayPass(status)) throw new Interruption(message, retryAfter(response.headers.get("retry-after")));
      throw new HttpError(message, status, response.headers.get("x-error-code") ?? undefined);
    } catch (error) {
      watchdog[Symbol.dispose]();
      throw interruption(error, url, options.signal);
    }
  }

  /** Whether a proxy has compressed the body although the request asks for the bytes as they are. */
  get isCompressed(): boolean {
    return this.response.headers.get("content-encoding") === "gzip";
  }

  /** The body as it arrives, decompressed. */
  async *chunks(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const { body } = this.response;
    // So it is with status 204.
    if (body === null) return;
    const reader = (this.isCompressed ? body.pipeThrough(new DecompressionStream("gzip")) : body).getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read().catch((error) => {
          throw interruption(error, this.url, this.#watchdog.signal);
        });
        if (done) return;
        this.#watchdog.moved(value.length);
        yield value;
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  }

  [Symbol.dispose](): void {
    this.#watchdog[Symbol.dispose]();
    // Has no effect on a body that was read to its end, and fails on one that is being decompressed.
    this.response.body?.cancel().catch(() => {});
  }
}

/**
 * What a failed request or read means: the user's abort, final answers and a missing permission as they are, the rest
 * as an interruption.
 */
function interruption(error: unknown, url: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof UserError || error instanceof Interruption || error instanceof Deno.errors.NotCapable) {
    return error;
  }
  return new Interruption(`${url}: ${reasonOf(error)}`);
}

/** Why a request failed: `fetch` says no more than that it did, its cause whether by name, connection or encryption. */
export function reasonOf(error: unknown): string {
  const { cause = error } = Object(error) as { cause?: unknown };
  return messageOf(cause).replace(/^error sending request for url \(\S*\): /, "");
}

/** Counts failures of one task and pauses between its attempts. */
export class Retries {
  #failures = 0;
  #furthest = 0;

  constructor(readonly options: RetryOptions) {}

  /**
   * To be called after a failure: waits until the next attempt.
   *
   * @param progress how far the task has come in bytes; 1 KiB further than at the last count anew starts it again.
   * @throws what `error` is, unless it is an {@linkcode Interruption}; a UserError after too many of those.
   */
  async after(error: unknown, progress = 0): Promise<void> {
    if (!(error instanceof Interruption)) throw error;
    const { attempts = 6, backoff = 500, signal } = this.options;
    // A server that trickles would be asked for ever.
    const moves = progress >= this.#furthest + LEAST_BYTES;
    this.#failures = moves ? 1 : this.#failures + 1;
    if (moves) this.#furthest = progress;
    if (this.#failures >= attempts) {
      throw new UserError(
        `${error.message} (given up after ${attempts} attempts)`,
        "check the connection and run the same command: it continues where it stopped",
      );
    }
    // Up to half of the pause is random, so that many clients of one server do not come back at the same moment.
    const growing = backoff * 2 ** (this.#failures - 1) * (1 + Math.random() / 2);
    await sleep(Math.min(LONGEST_PAUSE, Math.max(growing, error.pause ?? 0)), undefined, signal && { signal });
  }
}

/** A JSON document, and the address of the one that continues it. */
export interface Page {
  readonly json: unknown;
  /** On the same server, because the request for it carries the same credentials. */
  readonly next: string | undefined;
}

/** Gets a JSON document of at most 16 MiB, with retries, and the address of its next page if it has one. */
export async function getJson(url: string, options: RequestOptions = {}): Promise<Page> {
  const retries = new Retries(options);
  for (;;) {
    try {
      using answer = await Answer.get(url, options);
      const body = await collectShort(answer.chunks(), url);
      const [, next] = /<([^>]+)>;\s*rel="next"/.exec(answer.response.headers.get("link") ?? "") ?? [];
      const isHere = next !== undefined && URL.parse(next, url)?.origin === new URL(url).origin;
      return { json: parse(await body.text(), url), next: isHere ? new URL(next, url).href : undefined };
    } catch (error) {
      await retries.after(error);
    }
  }
}

/**
 * A body that is short when nothing is wrong.
 *
 * @throws {UserError} when it has more than 16 MiB.
 */
export async function collectShort(chunks: AsyncIterable<Uint8Array<ArrayBuffer>>, url: string): Promise<Blob> {
  const kept: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > MOST_JSON_BYTES) {
      throw new UserError(
        `${url} answers with more than ${MOST_JSON_BYTES} bytes where a short list is expected`,
        ASK_THE_RIGHT_HUB,
      );
    }
    kept.push(chunk);
  }
  return new Blob(kept);
}

/** A body that is no JSON may be the page of a proxy or a torn answer: worth another attempt. */
function parse(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Interruption(`${url} answers with something that is not JSON: "${text.slice(0, 60)}"`);
  }
}
