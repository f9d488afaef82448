/** A hub on this machine that takes files as the API does: what it was sent, and whether a token came along. */
import { createHash } from "node:crypto";

/** A request that arrived. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly token: string | null;
}

/** The hub, and the store of large files, which is another server. */
export class WritableHub implements AsyncDisposable {
  readonly asked: Asked[] = [];
  /** Repositories by name, with their files. */
  readonly repos = new Map<string, { isPrivate: boolean; readonly files: Map<string, Uint8Array> }>();
  /** Large files by the hash that they were announced with. */
  readonly store = new Map<string, Uint8Array>();
  /** Size of the parts in which the store takes files; in one piece when undefined. */
  partBytes: number | undefined;
  readonly #parts = new Map<string, Uint8Array>();
  /** Answers in place of the store where it returns something. */
  interceptStore: () => Response | undefined = () => undefined;
  /** Where the store is, when it is another server than the hub's own. */
  storeOrigin: string | undefined;
  /** Whose name a request to the store bears. */
  readonly storeTokens: (string | null)[] = [];
  /** Answers in place of the hub where it returns something. */
  intercept: (path: string) => Response | undefined = () => undefined;
  readonly #server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const bytes = new Uint8Array(await request.arrayBuffer());
    this.asked.push({ method: request.method, path: pathname, token: request.headers.get("authorization") });
    return this.intercept(pathname) ?? this.#answer(request, pathname, new TextDecoder().decode(bytes));
  });
  readonly #store = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    this.storeTokens.push(request.headers.get("authorization"));
    const bytes = new Uint8Array(await request.arrayBuffer());
    return this.interceptStore() ?? this.#keep(request, bytes);
  });

  get endpoint(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Takes a file, a part of one, or the word that all parts are there. */
  #keep(request: Request, bytes: Uint8Array): Response {
    const [, oid, part] = new URL(request.url).pathname.split("/");
    if (request.method === "POST") {
      const { parts } = JSON.parse(new TextDecoder().decode(bytes)) as {
        parts: { partNumber: number; etag: string }[];
      };
      const joined = parts.flatMap(({ partNumber, etag }) => {
        if (etag !== `"${partNumber}"`) throw new Error(`wrong tag of part ${partNumber}: ${etag}`);
        return [...this.#parts.get(`${oid}/${partNumber}`)!];
      });
      this.store.set(oid!, Uint8Array.from(joined));
    } else if (part === undefined) this.store.set(oid!, bytes);
    else this.#parts.set(`${oid}/${part}`, bytes);
    return new Response(null, { headers: { etag: `"${part}"` } });
  }

  /** Where a large file is to be sent. */
  #upload(oid: string, size: number): Record<string, unknown> {
    const origin = this.storeOrigin ?? `http://127.0.0.1:${this.#store.addr.port}`;
    const place = (path: string) => `${origin}/${oid}${path}?signature=secret`;
    const { partBytes } = this;
    if (partBytes === undefined) return { href: place("") };
    const parts = Array.from({ length: Math.ceil(size / partBytes) }, (_, i) => [`${i + 1}`, place(`/${i + 1}`)]);
    return { href: place("/complete"), header: { chunk_size: `${partBytes}`, ...Object.fromEntries(parts) } };
  }

  #answer(request: Request, path: string, text: string): Response {
    if (request.headers.get("authorization") !== "Bearer hf_right") {
      return Response.json({ error: "Invalid credentials in Authorization header: hf_wrong" }, { status: 401 });
    }
    if (path === "/api/repos/create") {
      const { organization, name, visibility } = JSON.parse(text);
      this.repos.set(`${organization}/${name}`, { isPrivate: visibility === "private", files: new Map() });
      return Response.json({ url: "", id: "" });
    }
    const [, repo] = /^(?:\/api\/models)?\/(\w+\/[\w-]+)(?:\.git)?(?:\/|$)/.exec(path) ?? [];
    const found = this.repos.get(repo ?? "");
    if (found === undefined) return Response.json({ error: "Repository not found" }, { status: 404 });
    if (path.endsWith("/preupload/main")) {
      const { files } = JSON.parse(text) as { files: { path: string }[] };
      const isLarge = (name: string) => /\.(safetensors|mp4)$/.test(name);
      return Response.json({
        files: files.map(({ path }) => ({
          path,
          uploadMode: isLarge(path) ? "lfs" : "regular",
          shouldIgnore: false,
        })),
      });
    }
    if (path.endsWith("/info/lfs/objects/batch")) {
      const { objects } = JSON.parse(text) as { objects: { oid: string; size: number }[] };
      return Response.json({
        transfer: "basic",
        objects: objects.map(({ oid, size }) => ({
          oid,
          size,
          ...(this.store.has(oid) ? {} : { actions: { upload: this.#upload(oid, size) } }),
        })),
      });
    }
    if (path.endsWith("/commit/main")) {
      for (const line of text.trim().split("\n")) {
        const { key, value } = JSON.parse(line);
        if (key === "file") found.files.set(value.path, Uint8Array.from(atob(value.content), (c) => c.charCodeAt(0)));
        if (key === "lfsFile") found.files.set(value.path, this.#stored(value.oid, value.size));
      }
      return Response.json({ commitOid: "a".repeat(40), commitUrl: "", hookOutput: "" });
    }
    return Response.json({ id: repo });
  }

  /** A large file as the hub accepts it: there, and with the size and hash that were announced. */
  #stored(oid: string, size: number): Uint8Array {
    const bytes = this.store.get(oid);
    if (bytes?.length !== size || createHash("sha256").update(bytes).digest("hex") !== oid) {
      throw new Error(`${oid} is not in the store`);
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#server.shutdown(), this.#store.shutdown()]);
  }
}
