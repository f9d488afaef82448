/**
 * The pages of runs over HTTP, for browsers on this machine alone that were given its token. A page of another site
 * cannot reach them: neither by a name of its own that resolves to this machine (DNS rebinding), nor by embedding what
 * is here.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { addressOf, contentPolicy, type HtmlPage, renderHtml } from "../../io/html_page.ts";
import { runPage } from "../../train/report/page/view.ts";
import { comparePage, compareRuns } from "./compare.ts";
import { Door } from "./door.ts";
import { type Answerer, listen } from "./listen.ts";
import { mediaResponse, mediaType } from "./media.ts";
import { pathInside, RunFolder } from "./runs.ts";

/** Port that is tried when none is given; another free one when it is taken. */
const USUAL_PORT = 8642;

/** The only address that is listened on. */
const HOST = "127.0.0.1";

/** Milliseconds in which an open page asks for its news again: its own 2 seconds and some for the way. */
const NEXT_LOOK = 2500;

const HEADERS = {
  "cache-control": "no-cache",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

const NOTHING_YET: HtmlPage = {
  title: "No run yet",
  style: ":root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif } body { margin: 3rem }",
  body: "<h1>No run yet</h1><p>A run has a page from its first step on: before that, clips are encoded.</p>",
  data: null,
  script: "setTimeout(() => location.reload(), 2000);",
};

/** Whether a request was meant for this machine. The port may be another one, that of a tunnel to it. */
function isLocal(request: Request): boolean {
  const host = request.headers.get("host") ?? new URL(request.url).host;
  return /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/i.test(host);
}

function pageResponse(page: HtmlPage): Response {
  const policy = `${contentPolicy(page)}; frame-ancestors 'none'`;
  const headers = { "content-type": "text/html; charset=utf-8", "content-security-policy": policy };
  return new Response(renderHtml(page), { headers });
}

/** Names below the root that a path means; undefined for one that leads elsewhere or to hidden files. */
function namesOf(pathname: string): string[] | undefined {
  try {
    const names = pathname.slice(1).split("/").map(decodeURIComponent);
    const isPlain = (name: string) => !name.startsWith(".") && !/[/\\\0]/.test(name);
    return names.every(isPlain) ? names : undefined;
  } catch {
    return undefined;
  }
}

async function answer(folder: RunFolder, door: Door, request: Request): Promise<Response> {
  if (!isLocal(request)) return new Response("This is not the host that was asked for.\n", { status: 421 });
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response("Only GET and HEAD are answered.\n", { status: 405, headers: { allow: "GET, HEAD" } });
  }
  const stopped = door.stop(request);
  if (stopped !== undefined) return stopped;
  const names = namesOf(new URL(request.url).pathname);
  if (names === undefined) return new Response("No such file.\n", { status: 404 });
  const runs = folder.runs();
  const isRoot = names.length === 1 && names[0] === "";
  const single = isRoot ? runs.find(({ name }) => name === "") : undefined;
  if (single !== undefined) return pageResponse(runPage(single.page));
  if (isRoot) return pageResponse(runs.length === 0 ? NOTHING_YET : comparePage(compareRuns(folder.root, runs)));
  const run = runs.find(({ name }) => name === names[0]);
  if (run !== undefined && names.length === 1) {
    return new Response(null, { status: 308, headers: { location: `/${addressOf(run.name)}/` } });
  }
  // Drawn anew from the data alone: the markup of a page on disk is not trusted.
  if (run !== undefined && names.length === 2 && names[1] === "") return pageResponse(runPage(run.page));
  const type = mediaType(names.at(-1)!);
  const path = type === undefined ? undefined : pathInside(folder.root, join(folder.root, ...names));
  // Opening a pipe would wait for a writer for ever, so the kind comes first.
  if (path === undefined || !statSync(path).isFile()) return new Response("No such file.\n", { status: 404 });
  return await mediaResponse(request, path, type!);
}

/** Answers a request for the runs of a folder. */
export async function respond(folder: RunFolder, door: Door, request: Request): Promise<Response> {
  const response = await answer(folder, door, request);
  for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
  return response;
}

/** A server of pages; disposing ends it, after open pages had the time to see the end of the run. */
export interface Dashboard extends AsyncDisposable {
  /** What to open in a browser; it holds a token, without which nothing is answered. */
  readonly address: string;
}

/**
 * Serves the runs of a folder on this machine.
 *
 * @param port 0 for any.
 * @throws {UserError} when the port is taken.
 */
export async function serveDashboard(root: string, port?: number): Promise<Dashboard> {
  const folder = new RunFolder(root);
  const door = new Door();
  let looked = -Infinity;
  const answerer: Answerer = (request) => {
    looked = performance.now();
    return respond(folder, door, request);
  };
  const server = await listen(HOST, port ?? USUAL_PORT, answerer) ??
    (port === undefined ? await listen(HOST, 0, answerer) : undefined);
  if (server === undefined) {
    throw new UserError(`Port ${port} is taken`, "give another one, or none for one that is free");
  }
  return {
    address: `http://${HOST}:${server.port}/${door.query}`,
    async [Symbol.asyncDispose]() {
      const isWatched = performance.now() - looked < NEXT_LOOK;
      if (isWatched) await new Promise((resolve) => setTimeout(resolve, NEXT_LOOK));
      await server[Symbol.asyncDispose]();
    },
  };
}
