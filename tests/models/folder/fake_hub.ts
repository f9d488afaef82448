/** A hub on this machine that serves the tiny model of the repository, and does what a test tells it to. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { type HubEvent, type HubOptions, resolveModelPath } from "../../../lib/models/folder/hub.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { fromFileUrl } from "../../paths.ts";

/** Folder of the model that the hub serves. */
export const tiny = fromFileUrl("../../../examples/tiny-2b", import.meta.url);

/** Files of the tiny model by path. */
function modelFiles(): Map<string, Uint8Array<ArrayBuffer>> {
  const names = readdirSync(tiny, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(tiny.length + 1));
  return new Map(names.map((name) => [name, new Uint8Array(readFileSync(join(tiny, name)))]));
}

/** What lies in many repositories and is of no use here. */
const others = [
  "README.md",
  "transformer/diffusion_pytorch_model.fp16.safetensors",
  "transformer/diffusion_pytorch_model.bin",
  "../escape/config.json",
  "transformer/../../config.json",
  "/etc/config.json",
];

const digest = (algorithm: string, ...parts: (string | Uint8Array)[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash(algorithm)).digest("hex");

/** An entry of the hub's listing; weights and the tokenizer are large files there. */
export function entryOf(path: string, bytes: Uint8Array): Record<string, unknown> {
  const oid = digest("sha1", `blob ${bytes.length}\0`, bytes);
  const entry = { type: "file", path, size: bytes.length, oid };
  return /\.(safetensors|model)$/.test(path)
    ? { ...entry, oid: "0".repeat(40), lfs: { oid: digest("sha256", bytes), size: bytes.length, pointerSize: 134 } }
    : entry;
}

/** A hub with one model. */
export class FakeHub implements AsyncDisposable {
  readonly files: Map<string, Uint8Array<ArrayBuffer>> = modelFiles();
  commit = "a".repeat(40);
  /** Paths asked for since this was emptied. */
  readonly asked: string[] = [];
  /** Answers in place of the hub where it returns something. */
  intercept: (request: Request, path: string) => Response | undefined = () => undefined;
  readonly #server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const path = new URL(request.url).pathname;
    this.asked.push(path);
    return this.intercept(request, path) ?? this.#answer(request, path);
  });

  get endpoint(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  #answer(request: Request, path: string): Response {
    const [, revision] = /^\/api\/models\/owner\/name\/revision\/(.+)$/.exec(path) ?? [];
    if (revision !== undefined && /^(main|v1|a{40})$/.test(revision)) return Response.json({ sha: this.commit });
    if (path === `/api/models/owner/name/tree/${this.commit}`) return this.#page(request);
    const file = this.files.get(path.replace(/^\/owner\/name\/resolve\/(a|b){40}\//, ""));
    if (file === undefined) return new Response("not found", { status: 404 });
    const [, from] = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "") ?? [];
    if (from === undefined) return new Response(file);
    const range = `bytes ${from}-${file.length - 1}/${file.length}`;
    return new Response(file.slice(Number(from)), { status: 206, headers: { "content-range": range } });
  }

  /** Half of the listing at a time, as the hub pages long ones. */
  #page(request: Request): Response {
    const entries = [
      ...[...this.files].map(([path, bytes]) => entryOf(path, bytes)),
      ...others.map((path) => entryOf(path, new Uint8Array(3))),
      { type: "directory", path: "transformer", oid: "0".repeat(40), size: 0 },
    ];
    const second = request.url.includes("cursor=");
    if (second) return Response.json(entries.slice(7));
    return Response.json(entries.slice(0, 7), { headers: { link: `<${request.url}&cursor=7>; rel="next"` } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Resolves a model; returns its folder and what was told. */
export async function resolve(path: string, options: HubOptions): Promise<{ folder: string; events: HubEvent[] }> {
  const events: HubEvent[] = [];
  const running = resolveModelPath(path, { backoff: 1, attempts: 2, token: undefined, ...options });
  for (;;) {
    const { done, value } = await running.next();
    if (done) return { folder: value, events };
    events.push(value);
  }
}

/** Runs `body` with a hub and an empty cache. */
export function withHub(
  body: (hub: FakeHub, options: HubOptions & { cacheFolder: string }) => Promise<void>,
): Promise<void> {
  return withFolder(async (cacheFolder) => {
    await using hub = new FakeHub();
    await body(hub, { endpoint: hub.endpoint, cacheFolder });
  });
}

export async function refused(path: string, options: HubOptions, expected: RegExp): Promise<void> {
  await assert.rejects(
    resolve(path, options),
    (error: unknown) => error instanceof UserError && expected.test(error.message),
  );
}
