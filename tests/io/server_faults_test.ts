/** Answers of servers and failures of the own disk that end a download, each with its message and what is left of it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { download, type DownloadOptions, partBytes, partPath } from "../../lib/io/download.ts";
import { getJson, HttpError } from "../../lib/io/http.ts";
import { withDeadline } from "../patience.ts";
import { faultyOperations, withFolder } from "./faulty_operations.ts";

const content = Uint8Array.from({ length: 20_000 }, (_, i) => i * 7);
const value = createHash("sha256").update(content).digest("hex");
const known: DownloadOptions = {
  size: content.length,
  checksum: { algorithm: "sha256", value },
  backoff: 1,
  attempts: 2,
};

/** Runs `body` against a server; what it answers depends on how often it was asked. */
async function withServer(
  answer: (number: number) => Response,
  body: (url: string, asked: () => number) => Promise<void>,
): Promise<void> {
  let number = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => answer(++number));
  try {
    await body(`http://127.0.0.1:${server.addr.port}`, () => number);
  } finally {
    await server.shutdown();
  }
}

async function finish(url: string, path: string, changes: Partial<DownloadOptions> = {}): Promise<void> {
  for await (const _ of download(url, path, { ...known, ...changes }));
}

async function failureOf(work: Promise<unknown>): Promise<UserError> {
  const error = await work.then(() => assert.fail("it did not fail"), (error) => error);
  assert.ok(error instanceof UserError, `${error}`);
  return error;
}

const reply = (status: number, headers: Record<string, string>, body: BodyInit | null = null) =>
  new Response(body, { status, headers });

Deno.test("answers that hold no file: what the server said, how often it was asked, and no file of that name", () =>
  withFolder(async (folder) => {
    const path = join(folder, "file");
    /** Name, the answer, how often it is asked for, what the message says. */
    const faults: readonly (readonly [string, () => Response, number, RegExp])[] = [
      ["empty", () => reply(204, {}), 2, /ended after 0 of 20000 bytes .*given up after 2 attempts/],
      ["unwritten", () => reply(302, { location: "http://" }), 2, /Invalid URL.*given up/],
      ["chunked", () => new Response(new Blob(["abc"]).stream()), 2, /ended after 3 of 20000 bytes/],
      ["elsewhere", () => reply(206, { "content-range": "bytes 5-9/20000" }, "abcde"), 2, /cannot continue at byte 0/],
      ["unclear", () => reply(206, {}, "abc"), 2, /cannot continue at byte 0/],
      ["broken", () => reply(200, { "content-encoding": "gzip" }, "no gzip"), 2, /given up after 2 attempts/],
    ];
    for (const [name, answer, times, message] of faults) {
      await withServer(answer, async (url, asked) => {
        assert.match((await failureOf(finish(url, path))).message, message);
        assert.equal(asked(), times, name);
      });
      assert.equal(existsSync(path), false);
    }
  }));

Deno.test("a disk that fills up in the middle is named with what the rest needs; one that has no name free keeps the bytes", () =>
  withFolder((folder) =>
    withServer(() => new Response(content), async (url) => {
      const full = join(folder, "full");
      const operations = faultyOperations({ at: 2, kind: "ENOSPC" });
      const { message } = await failureOf(finish(url, full, { operations }));
      assert.match(message, /Cannot write ".*full.part": the disk is full; 20000 bytes are wanted/);
      const kept = new Uint8Array(readFileSync(partPath(full)));
      assert.ok(kept.length > 0);
      assert.deepEqual(kept, content.subarray(0, kept.length));

      const inside = join(full + ".part", "file");
      assert.match((await failureOf(finish(url, inside))).message, /Cannot create ".*": a file stands where a folder/);

      const taken = join(folder, "taken");
      mkdirSync(join(taken, "mine"), { recursive: true });
      assert.match((await failureOf(finish(url, taken))).message, /Cannot write ".*taken"/);
      assert.equal(partBytes(taken), content.length);
      assert.deepEqual(readdirSync(taken), ["mine"]);
    })
  ));

Deno.test("a server that sends a byte now and then is left after the deadline, and not asked for ever", () =>
  withFolder(async (folder) => {
    const trickle = () =>
      new ReadableStream({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, 5));
          controller.enqueue(content.slice(0, 1));
        },
      });
    await withDeadline(200, (stall) =>
      withServer(() => new Response(trickle()), async (url, asked) => {
        const path = join(folder, "file");
        const { message } = await failureOf(finish(url, path, { attempts: 3, stall }));
        assert.match(message, /has sent nothing( but \d+ bytes)? for [\d.]+ s \(given up after 3 attempts\)/);
        assert.equal(asked(), 3);
        assert.equal(existsSync(path), false);
      }));
  }));

Deno.test("bytes that could not be forced to the disk are fetched again", () =>
  withFolder((folder) =>
    withServer(() => new Response(content), async (url, asked) => {
      const path = join(folder, "file");
      const real = faultyOperations();
      const sync = () => {
        throw Object.assign(new Error("injected"), { code: "EIO" });
      };
      const { message } = await failureOf(finish(url, path, { operations: { ...real, sync } }));
      assert.match(message, /Cannot write ".*file": the disk reports an input\/output error/);
      assert.deepEqual([existsSync(path), partBytes(path)], [false, 0]);
      await finish(url, path);
      assert.equal(asked(), 2);
      assert.deepEqual(new Uint8Array(readFileSync(path)), content);
    })
  ));

Deno.test("a server that asks for patience by a date is waited for until then, one that asks for nonsense is not", () =>
  withServer((number) => {
    const headers = { "retry-after": number === 1 ? new Date(Date.now() + 2000).toUTCString() : "soon" };
    return number > 2 ? Response.json(number) : reply(503, headers);
  }, async (url) => {
    const started = performance.now();
    assert.deepEqual((await getJson(url, { backoff: 1 })).json, 3);
    // A date has whole seconds, so two seconds ahead are at least one.
    assert.ok(performance.now() - started >= 950);
  }));

Deno.test("an address that cannot be read is no next page", () =>
  withServer(() => Response.json([], { headers: { link: '<http://>; rel="next"' } }), async (url) => {
    assert.deepEqual(await getJson(url), { json: [], next: undefined });
  }));

Deno.test("a refusal without a reason has a status and no reason", () =>
  withServer(() => reply(403, {}), async (url) => {
    const error = await failureOf(getJson(url));
    assert.ok(error instanceof HttpError);
    assert.deepEqual([error.status, error.code], [403, undefined]);
  }));

Deno.test("an abort ends the pause that a server asks for", () =>
  withServer(() => reply(503, { "retry-after": "3600" }), async (url, asked) => {
    const stop = new AbortController();
    const answer = getJson(url, { signal: stop.signal });
    while (asked() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort();
    await assert.rejects(answer, { name: "AbortError" });
    assert.equal(asked(), 1);
  }));
