/**
 * An HTTP server for the browsers of one user, in the process that trains. What strangers can take of it is bounded:
 * connections, the time in which a request has to come, its length. `Deno.serve` has no bound on connections: under
 * `ulimit -n 200`, 180 requests that were never finished left no file to open and ended the process.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream as NodeStream } from "node:stream/web";

/**
 * Connections at a time; a browser opens six. Those beyond are closed, but a burst of them is open for a moment, and a
 * process may open 1024 files where nobody has raised that.
 */
const MOST_CONNECTIONS = 128;

/** Milliseconds in which the head of a request has to be there, and a request as a whole. */
const HEAD_TIME = 5000;
const REQUEST_TIME = 10_000;

/** Milliseconds between two looks for requests that are late. */
const LOOK = 1000;

/** Answers requests. */
export type Answerer = (request: Request) => Promise<Response>;

/** A server that listens; disposing ends it with all connections. */
export interface Listener extends AsyncDisposable {
  readonly port: number;
}

/** Listens on a port, 0 for any; undefined when it is taken. */
export async function listen(hostname: string, port: number, answerer: Answerer): Promise<Listener | undefined> {
  const server = createServer(
    { headersTimeout: HEAD_TIME, requestTimeout: REQUEST_TIME, connectionsCheckingInterval: LOOK },
    (request, response) => void answer(request, response, answerer).catch(() => response.destroy()),
  );
  server.maxConnections = MOST_CONNECTIONS;
  const started = Promise.withResolvers<void>();
  server.once("listening", started.resolve);
  // After the start: a connection that could not be taken on, which whoever made it sees.
  server.on("error", started.reject);
  try {
    requirePermission(hostname, port);
    server.listen(port, hostname);
    await started.promise;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse || Object(error).code === "EADDRINUSE") return undefined;
    throw error;
  }
  return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: () => close(server) };
}

/**
 * A permission that is missing is an error here; inside node:net nothing would catch it. Where it is there the port is
 * not tried out: a program that another thread starts holds a copy of the socket until it runs, and the port with it.
 */
function requirePermission(hostname: string, port: number): void {
  const { state } = Deno.permissions.querySync({ name: "net", host: `${hostname}:${port}` });
  if (state !== "granted") Deno.listen({ hostname, port }).close();
}

async function close(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

/** Whatever goes wrong in an answer ends this answer, and not the run beside it. */
async function answer(request: IncomingMessage, response: ServerResponse, answerer: Answerer): Promise<void> {
  const understood = requestOf(request);
  const { status, headers, body } = understood === undefined
    ? new Response("This is no request.\n", { status: 400 })
    : await Promise.try(answerer, understood).catch(() =>
      new Response("The page could not be made.\n", { status: 500 })
    );
  response.writeHead(status, Object.fromEntries(headers));
  // Fails when the browser has gone.
  await pipeline(body === null ? [] : Readable.fromWeb(body as NodeStream), response).catch(() => {});
}

/** The request of this host's own form; undefined for one to a proxy, without a host or of a method that is none. */
function requestOf({ method = "", url = "", rawHeaders }: IncomingMessage): Request | undefined {
  try {
    const headers = new Headers();
    // One by one: of two hosts neither is to be believed.
    for (let i = 0; i < rawHeaders.length; i += 2) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
    const host = headers.get("host") ?? "";
    return host === "" || !url.startsWith("/") ? undefined : new Request(`http://${host}${url}`, { method, headers });
  } catch {
    return undefined;
  }
}
