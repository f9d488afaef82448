/** Uploads on which nothing moves: servers that take nothing, answer nothing, or answer without end. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { uploadFiles, type UploadOptions } from "../../../lib/models/folder/hub_upload.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { withDeadline } from "../../patience.ts";
import { WritableHub } from "./fake_hub.ts";

/** More than a system buffers for a connection (4.5 MB measured), so that a server which takes nothing is felt. */
const BYTES = 16 << 20;

/** A server of bytes: `talk` gets every connection; disposing ends them all. */
class Listener implements Disposable {
  readonly #connections: Deno.Conn[] = [];
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  connections = 0;

  constructor(talk: (connection: Deno.Conn) => Promise<void>) {
    (async () => {
      for await (const connection of this.#listener) {
        this.#connections.push(connection);
        this.connections++;
        talk(connection).catch(() => {});
      }
    })();
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch {
        // The other side has closed it.
      }
    }
  }
}

const text = (words: string) => new TextEncoder().encode(words);

/** Takes nothing, for as long as the test goes on. */
const deaf = () => Promise.resolve();

/** Takes a request and answers with these words, after which it says nothing. */
function says(words: string): (connection: Deno.Conn) => Promise<void> {
  return async (connection) => {
    await connection.read(new Uint8Array(1 << 16));
    if (words !== "") await connection.write(text(words));
  };
}

/** Never stops answering. */
async function babbles(connection: Deno.Conn): Promise<void> {
  await connection.read(new Uint8Array(1 << 16));
  await connection.write(text("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"));
  for (const piece = new Uint8Array(1 << 18);;) await connection.write(piece);
}

async function upload(folder: string, options: Partial<UploadOptions>): Promise<void> {
  const path = join(folder, "a.safetensors");
  writeFileSync(path, new Uint8Array(BYTES));
  await uploadFiles("me/star", [{ name: "a.safetensors", content: { path } }], {
    token: "hf_right",
    isPrivate: true,
    title: "x",
    attempts: 2,
    backoff: 1,
    ...options,
  });
}

async function refused(folder: string, options: Partial<UploadOptions>, expected: RegExp): Promise<void> {
  const error = await upload(folder, options).then(() => undefined, (error) => error);
  assert.ok(error instanceof UserError && error.hint !== undefined, `${error}`);
  assert.match(error.message, expected);
  assert.doesNotMatch(error.message, /hf_right|signature=/);
}

const silence = /has neither taken nor sent anything for [\d.]+ s \(given up after 2 attempts\)/;

Deno.test("a hub that says nothing, begins an answer, or never ends it is given up with its address", () =>
  withFolder(async (folder) => {
    for (const words of ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"]) {
      await withDeadline(300, async (stall) => {
        using hub = new Listener(says(words));
        await refused(folder, { endpoint: hub.origin, stall }, silence);
        assert.equal(hub.connections, 2);
      });
    }
    using endless = new Listener(babbles);
    await refused(folder, { endpoint: endless.origin }, /answers with more than 16777216 bytes/);
  }));

Deno.test("a store that takes nothing, or takes a file and never answers, is given up, and nothing is committed", () =>
  withFolder(async (folder) => {
    await using hub = new WritableHub();
    const swallow = async (connection: Deno.Conn) => {
      for await (const _ of connection.readable);
    };
    for (const talk of [deaf, swallow]) {
      await withDeadline(300, async (stall) => {
        using store = new Listener(talk);
        hub.storeOrigin = store.origin;
        await refused(folder, { endpoint: hub.endpoint, stall }, silence);
        assert.equal(store.connections, 2);
      });
    }
    assert.ok(hub.asked.every(({ path }) => !path.includes("/commit/")));
  }));

Deno.test("a slow store is waited for while it takes bytes, for longer than the deadline in all", () =>
  withFolder(async (folder) => {
    await using hub = new WritableHub();
    hub.intercept = (path) => path.includes("/commit/") ? Response.json({ commitOid: "a".repeat(40) }) : undefined;
    await withDeadline(1500, async (stall) => {
      let taken = 0;
      using store = new Listener(async (connection) => {
        taken = 0;
        const piece = new Uint8Array(1 << 20);
        for (let paused = 0; taken < BYTES;) {
          taken += (await connection.read(piece)) ?? BYTES;
          if (taken - paused < piece.length) continue;
          paused = taken;
          // The last 4.5 MB, which the system holds, take 0.6 of the deadline and count as silence; all of them twice it.
          await new Promise((resolve) => setTimeout(resolve, 0.1333 * stall));
        }
        await connection.write(text("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
      });
      hub.storeOrigin = store.origin;
      const started = performance.now();
      await upload(folder, { endpoint: hub.endpoint, stall });
      assert.ok(taken >= BYTES && performance.now() - started > 2 * stall);
    });
  }));
