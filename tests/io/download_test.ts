/** Downloads from a server on this machine that breaks off, lies and refuses. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { download, type DownloadOptions, partBytes, partPath } from "../../lib/io/download.ts";
import { getJson, HttpError } from "../../lib/io/http.ts";
import { until, withDeadline } from "../patience.ts";
import { withFolder } from "./faulty_operations.ts";

const content = Uint8Array.from({ length: 100_000 }, (_, i) => (i * i) >> 3);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** What is known of the file, with pauses that a test can wait for. */
function options(changes: Partial<DownloadOptions> = {}): DownloadOptions {
  const checksum = { algorithm: "sha256", value: sha256(content) } as const;
  return { size: content.length, checksum, backoff: 1, attempts: 4, ...changes };
}

/** Runs `body` against a server; `answer` gets every request with its number from 1. */
async function withServer(
  answer: (request: Request, number: number) => Response | Promise<Response>,
  body: (url: string, requests: Headers[]) => Promise<void>,
): Promise<void> {
  const requests: Headers[] = [];
  const handler = (request: Request) => answer(request, requests.push(new Headers(request.headers)));
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  try {
    await body(`http://127.0.0.1:${server.addr.port}/file`, requests);
  } finally {
    await server.shutdown();
  }
}

/**
 * A body that ends early where its length was announced, which breaks the connection: when all of it `hasArrived`, as
 * the server drops what is under way along with the connection.
 */
function torn(bytes: Uint8Array<ArrayBuffer>, hasArrived: () => boolean): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      controller.enqueue(bytes);
      await until(hasArrived, "the arrival of what was sent");
      controller.close();
    },
  });
}

/** Answers with the bytes from the start of the range on; the body is `make` of them. */
function ranged(
  request: Request,
  make: (rest: Uint8Array<ArrayBuffer>) => BodyInit = (rest) => rest,
): Response {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "") ?? [];
  if (from === undefined) return new Response(make(content), { headers: { "content-length": `${content.length}` } });
  const rest = content.slice(Number(from));
  const range = `bytes ${from}-${content.length - 1}/${content.length}`;
  return new Response(make(rest), {
    status: 206,
    headers: { "content-range": range, "content-length": `${rest.length}` },
  });
}

async function finish(bytes: AsyncGenerator<number>): Promise<number[]> {
  const seen: number[] = [];
  for await (const done of bytes) seen.push(done);
  return seen;
}

/** Asserts that a download fails with a message for the user and leaves no file of its name. */
async function refused(url: string, path: string, expected: RegExp, changes?: Partial<DownloadOptions>): Promise<void> {
  await assert.rejects(
    finish(download(url, path, options(changes))),
    (error: unknown) => error instanceof UserError && expected.test(error.message),
  );
  assert.equal(existsSync(path), false);
}

Deno.test("a whole file: its bytes, its size reported last, nothing else in the folder", () =>
  withFolder((folder) =>
    withServer((request) => ranged(request), async (url, requests) => {
      const path = join(folder, "deep", "er", "file");
      const seen = await finish(download(url, path, options()));
      assert.equal(seen.at(-1), content.length);
      assert.deepEqual(new Uint8Array(readFileSync(path)), content);
      assert.deepEqual(readdirSync(join(folder, "deep", "er")), ["file"]);
      assert.equal(requests.length, 1);
      assert.equal(requests[0]!.get("accept-encoding"), "identity");
    })
  ));

Deno.test("a connection that breaks again and again: every byte is asked for once", () =>
  withFolder((folder) => {
    const path = join(folder, "file");
    const answer = (request: Request) =>
      ranged(request, (rest) => {
        const end = content.length - rest.length + Math.min(9001, rest.length);
        return torn(rest.slice(0, 9001), () => existsSync(path) || partBytes(path) >= end);
      });
    return withServer(answer, async (url, requests) => {
      await finish(download(url, path, options()));
      assert.deepEqual(new Uint8Array(readFileSync(path)), content);
      // 100,000 bytes in portions of 9,001: more failures than attempts, each after some progress.
      const asked = requests.map((headers) => headers.get("range"));
      assert.deepEqual(asked, [null, ...Array.from({ length: 11 }, (_, i) => `bytes=${9001 * (i + 1)}-`)]);
    });
  }));

Deno.test("what a killed process left is continued; a longer or damaged rest is not", () =>
  withFolder((folder) =>
    withServer((request) => ranged(request), async (url, requests) => {
      const path = join(folder, "file");
      const first = () => requests.splice(0).map((headers) => headers.get("range"));
      for (
        const [left, asked] of [
          [content.slice(0, 60_000), ["bytes=60000-"]],
          [content, []],
          [new Uint8Array(content.length + 1), [null]],
          [new Uint8Array(60_000), ["bytes=60000-", null]],
        ] as const
      ) {
        writeFileSync(partPath(path), left);
        await finish(download(url, path, options()));
        assert.deepEqual(new Uint8Array(readFileSync(path)), content);
        assert.deepEqual(first(), asked);
      }
    })
  ));

Deno.test("a server that ignores ranges, or refuses them, sends the file from its start", () =>
  withFolder(async (folder) => {
    const path = join(folder, "file");
    const refuse = (request: Request) =>
      request.headers.has("range") ? new Response(null, { status: 416 }) : new Response(content);
    for (const answer of [() => new Response(content), refuse]) {
      writeFileSync(partPath(path), content.slice(0, 5));
      await withServer(answer, async (url) => void await finish(download(url, path, options())));
      assert.deepEqual(new Uint8Array(readFileSync(path)), content);
    }
    // Every attempt starts anew and ends early: it must not go on for ever.
    const other = join(folder, "other");
    const early = () => torn(content.slice(0, 500), () => partBytes(other) === 500);
    await withServer(
      () => new Response(early(), { headers: { "content-length": "100000" } }),
      (url, requests) => refused(url, other, /4 attempts/).then(() => assert.equal(requests.length, 4)),
    );
  }));

Deno.test("a file of another size or content is not installed, and the message has both values", () =>
  withFolder(async (folder) => {
    const path = join(folder, "file");
    const short = content.slice(0, 99_000);
    await withServer(() => new Response(short), (url) => refused(url, path, /has 99000 bytes, expected 100000/));
    const long = () => new Response(new Blob([content, content]).stream());
    await withServer(long, (url) => refused(url, path, /more than the expected 100000 bytes/));
    const wrong = content.map((byte) => byte ^ 1);
    await withServer(
      () => new Response(wrong),
      (url) => refused(url, path, new RegExp(`is ${sha256(wrong)}, expected ${sha256(content)}`)),
    );
    assert.deepEqual(readdirSync(folder), []);
  }));

Deno.test("git object ids verify small files, also through a server that compresses unasked", () =>
  withFolder(async (folder) => {
    // `printf 'hello\n' | git hash-object --stdin`
    const checksum = { algorithm: "git", value: "ce013625030ba8dba906f756967f9e9ca394464a" } as const;
    const zipped = await new Response(new Blob(["hello\n"]).stream().pipeThrough(new CompressionStream("gzip")))
      .bytes();
    const answer = () => new Response(zipped, { headers: { "content-encoding": "gzip" } });
    const path = join(folder, "file");
    await withServer(answer, async (url) => void await finish(download(url, path, options({ size: 6, checksum }))));
    assert.equal(readFileSync(path, "utf8"), "hello\n");
  }));

Deno.test("overload is waited for as long as the server asks; a refusal ends at once with its status", () =>
  withFolder(async (folder) => {
    const path = join(folder, "file");
    const busy = (request: Request, number: number) =>
      number === 1 ? new Response(null, { status: 429, headers: { "retry-after": "1" } }) : ranged(request);
    const started = performance.now();
    await withServer(busy, async (url) => void await finish(download(url, path, options())));
    assert.ok(performance.now() - started >= 1000);

    for (const status of [401, 403, 404]) {
      const answer = () => new Response(null, { status, headers: { "x-error-code": "Reason" } });
      await withServer(answer, async (url, requests) => {
        await assert.rejects(finish(download(url, join(folder, "none"), options())), (error: unknown) => {
          assert.ok(error instanceof HttpError);
          assert.deepEqual([error.status, error.code], [status, "Reason"]);
          return true;
        });
        assert.equal(requests.length, 1);
      });
    }
    const down = () => new Response(null, { status: 503 });
    await withServer(down, (url, requests) =>
      refused(url, join(folder, "none"), /503[^]*continues where it stopped/)
        .then(() => assert.equal(requests.length, 4)));
  }));

Deno.test("a server that goes silent is left after the deadline", () =>
  withDeadline(100, (stall) =>
    withFolder((folder) =>
      withServer(
        (request, number) =>
          number > 1 ? ranged(request) : new Response(
            new ReadableStream({ start: (controller) => controller.enqueue(content.slice(0, 7000)) }),
          ),
        async (url, requests) => {
          await finish(download(url, join(folder, "file"), options({ stall })));
          assert.equal(requests[1]!.get("range"), "bytes=7000-");
        },
      )
    )));

Deno.test("credentials go to the first server only, and never over an unencrypted connection", () =>
  withFolder((folder) =>
    withServer(
      (request) => ranged(request),
      (storage, stored) =>
        withServer(
          (request) => Response.redirect(new URL(request.url).pathname === "/file" ? storage : "ftp://x/y"),
          async (url, asked) => {
            const headers = { authorization: "Bearer secret" };
            await finish(download(url, join(folder, "file"), options({ headers })));
            assert.equal(asked[0]!.get("authorization"), "Bearer secret");
            assert.equal(stored[0]!.get("authorization"), null);
            await refused(`${url}/2`, join(folder, "none"), /redirects to ftp:/, { headers });
          },
        ),
    )
  ));

Deno.test("an abort ends a download at once and keeps what has arrived", () =>
  withFolder((folder) =>
    withServer(
      () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(content.slice(0, 7000)) })),
      async (url) => {
        const stop = new AbortController();
        const path = join(folder, "file");
        await assert.rejects(async () => {
          for await (const _ of download(url, path, options({ signal: stop.signal }))) stop.abort();
        }, { name: "AbortError" });
        const kept = new Uint8Array(readFileSync(partPath(path)));
        assert.ok(kept.length > 0);
        assert.deepEqual(kept, content.slice(0, kept.length));
      },
    )
  ));

Deno.test("a disk that cannot hold the file, or a folder in its place, is said before anything is asked for", () =>
  withFolder((folder) =>
    withServer((request) => ranged(request), async (url, requests) => {
      await refused(url, join(folder, "huge"), /2000000000000000 bytes are wanted/, { size: 2e15 });
      mkdirSync(partPath(join(folder, "taken")));
      await refused(url, join(folder, "taken"), /a file stands where a folder is expected/);
      assert.equal(requests.length, 0);
    })
  ));

Deno.test("getJson: pages of the same server, another attempt when an answer is no JSON", () =>
  withServer(
    (_, number) =>
      number === 1 ? new Response("<html>") : Response.json([number], {
        headers: { link: number === 2 ? '</file?page=2>; rel="next"' : '<http://127.0.0.2/file>; rel="next"' },
      }),
    async (url) => {
      const first = await getJson(url, { backoff: 1 });
      assert.deepEqual(first, { json: [2], next: `${url}?page=2` });
      assert.deepEqual(await getJson(first.next!), { json: [3], next: undefined });
    },
  ));
