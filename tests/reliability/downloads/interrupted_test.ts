/**
 * A download that is cut off again and again: whatever ended it, at most 8 MiB arrive twice, and the file has its name when it is
 * whole, never before. Connections break at 50 points; processes are killed at 12, with COGTUNE_FULL at 50.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { download, partBytes } from "../../../lib/io/download.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { fromFileUrl } from "../../paths.ts";
import type { Order } from "./program.ts";

/** What may arrive twice after an interruption. */
const MOST_TWICE = 8 << 20;

const PIECE = 1 << 16;
const content = new Uint8Array(48 << 20).map((_, i) => (i * 2654435761) >>> 13);
const sha256 = createHash("sha256").update(content).digest("hex");
const program = fromFileUrl("program.ts", import.meta.url);

/** A server that notes from where it was asked and how far it came, and breaks off or falls silent where it is told to. */
class Server implements AsyncDisposable {
  from = 0;
  sent = 0;
  /** Largest number of bytes that one request asked for again. */
  twice = 0;
  requests = 0;
  /** Whether the connection breaks before this piece. */
  breaks: () => boolean = () => false;
  /** Byte before which it falls silent, and what it calls then. */
  silence = { at: Infinity, reached: () => {} };
  readonly #server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const [, from] = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "") ?? [];
    this.from = Number(from ?? 0);
    this.twice = Math.max(this.twice, this.sent - this.from);
    this.requests++;
    let at = this.sent = this.from;
    const body = new ReadableStream({
      pull: async (controller) => {
        if (this.breaks()) return controller.close();
        if (at >= this.silence.at) {
          this.silence.reached();
          await new Promise(() => {});
        }
        controller.enqueue(content.slice(at, at + PIECE));
        this.sent = at = Math.min(at + PIECE, content.length);
        if (at === content.length) controller.close();
      },
    });
    return new Response(body, {
      status: from === undefined ? 200 : 206,
      headers: {
        "content-length": `${content.length - this.from}`,
        ...(from === undefined ? {} : { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
      },
    });
  });

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/file`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

Deno.test("a connection that breaks at 50 points: at most 8 MiB arrive twice, nothing partial has the file's name", () =>
  withFolder(async (folder) => {
    const path = join(folder, "file");
    await using server = new Server();
    const portion = Math.floor(content.length / 51 / PIECE) * PIECE;
    server.breaks = () => {
      assert.ok(!existsSync(path));
      return server.sent - server.from >= portion && server.sent < content.length;
    };
    const options = { size: content.length, checksum: { algorithm: "sha256", value: sha256 }, backoff: 1 } as const;
    for await (const _ of download(server.url, path, options));
    assert.ok(server.requests > 50, `${server.requests} requests`);
    assert.ok(server.twice <= MOST_TWICE, `${server.twice} bytes arrived twice`);
    assert.equal(createHash("sha256").update(readFileSync(path)).digest("hex"), sha256);
    assert.deepEqual(readdirSync(folder), ["file"]);
  }));

Deno.test("a process that is killed at any point of a download: at most 8 MiB arrive twice, nothing partial has the file's name", () =>
  withFolder(async (folder) => {
    const points = Deno.env.has("COGTUNE_FULL") ? 50 : 12;
    const path = join(folder, "file");
    await using server = new Server();
    const order: Order = { url: server.url, path, size: content.length, sha256 };
    const start = () =>
      new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "-A", program, JSON.stringify(order)],
        stdout: "null",
      }).spawn();
    let worst = 0, all = 0;
    for (let point = 0; point < points; point++) {
      // The first is killed before a byte was sent, the last when all were.
      const goal = Math.round(content.length * point / (points - 1));
      const child = start();
      const isThere = Promise.withResolvers<void>();
      server.silence = { at: goal, reached: isThere.resolve };
      const ended = child.status;
      await Promise.race([isThere.promise, ended]);
      // The first half of what was sent has arrived, the other half is anywhere: systems hold up to 10 MB of a connection.
      const half = (server.from + server.sent) / 2;
      while (!existsSync(path) && partBytes(path) < half) await new Promise((resolve) => setTimeout(resolve, 1));
      const isWhole = existsSync(path);
      try {
        child.kill("SIGKILL");
      } catch {
        // The last one had ended.
      }
      await ended;
      const kept = existsSync(path) ? statSync(path).size : partBytes(path);
      if (isWhole || existsSync(path)) assert.equal(kept, content.length);
      const again = server.sent - kept;
      worst = Math.max(worst, again);
      all += Math.max(0, again);
    }
    server.silence = { at: Infinity, reached: () => {} };
    const { success } = await start().status;
    assert.ok(success);
    assert.ok(worst <= MOST_TWICE, `${worst} bytes arrived twice`);
    assert.equal(createHash("sha256").update(readFileSync(path)).digest("hex"), sha256);
    assert.deepEqual(readdirSync(folder), ["file"]);
    // deno-lint-ignore no-console
    console.log(`killed at ${points} points: ${all} bytes again in all, ${worst} at most`);
  }));
