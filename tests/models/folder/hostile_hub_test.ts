/** A hub that lies: whatever it answers, nothing of it is installed, nothing leaves the cache, and the token stays home. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { UserError } from "../../../lib/errors.ts";
import { entryOf, type FakeHub, resolve, withHub } from "./fake_hub.ts";

const WEIGHTS = "vae/diffusion_pytorch_model.safetensors";
const TOKEN = "hf_secret";

/** Bytes without end, a chunk whenever one is wanted. */
function endless(): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 16)) });
}

function listing(hub: FakeHub, change: (entry: Record<string, unknown>) => unknown): Response {
  return Response.json([...hub.files].map(([path, bytes]) => change(entryOf(path, bytes))));
}

interface Attack {
  readonly title: string;
  /** What the hub answers; undefined for the honest answer. */
  readonly answer: (hub: FakeHub, request: Request, path: string) => Response | undefined;
  readonly message: RegExp;
}

const isListing = (path: string) => path.includes("/tree/");
const isWeights = (path: string) => path.endsWith(WEIGHTS);

const attacks: readonly Attack[] = [
  {
    title: "other bytes of the same size",
    answer: (hub, _, path) =>
      isWeights(path) ? new Response(hub.files.get(WEIGHTS)!.map((byte) => byte ^ 1)) : undefined,
    message: /vae\/.* is damaged or another file: its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}/,
  },
  {
    title: "another config of the same size",
    answer: (hub, _, path) =>
      path.endsWith("vae/config.json") ? new Response(hub.files.get("vae/config.json")!.toReversed()) : undefined,
    message: /vae\/config.json is damaged or another file: its git object id is/,
  },
  {
    title: "a file without end",
    answer: (_hub, _request, path) => isWeights(path) ? new Response(endless()) : undefined,
    message: /sends more than the expected \d+ bytes/,
  },
  {
    title: "a range that was not asked for",
    answer: (hub, request, path) => {
      if (!isWeights(path)) return undefined;
      const bytes = hub.files.get(WEIGHTS)!;
      // Breaks off in the middle, then sends the file from its start while saying that it goes on.
      const [, from] = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "") ?? [];
      const range = `bytes ${from ?? 0}-${bytes.length - 1}/${bytes.length}`;
      return from === undefined
        ? new Response(bytes.slice(0, 1000))
        : new Response(bytes.slice(0, bytes.length - Number(from)), {
          status: 206,
          headers: { "content-range": range },
        });
    },
    message: /is damaged or another file|ended after 1000 of|has 1000 bytes/,
  },
  {
    title: "a listing without end",
    answer: (_hub, _request, path) => isListing(path) ? new Response(endless()) : undefined,
    message: /answers with more than 16777216 bytes where a short list is expected/,
  },
  {
    title: "a listing that grows when it is unpacked",
    answer: (_hub, _request, path) =>
      isListing(path)
        ? new Response(new Uint8Array(gzipSync(" ".repeat(32 << 20))), { headers: { "content-encoding": "gzip" } })
        : undefined,
    message: /answers with more than 16777216 bytes/,
  },
  {
    title: "pages without end",
    answer: (_hub, request, path) =>
      isListing(path) ? Response.json([], { headers: { link: `<${request.url}>; rel="next"` } }) : undefined,
    message: /lists the files of "owner\/name" without end/,
  },
  {
    title: "redirects in a circle",
    answer: (_hub, request, path) => isWeights(path) ? Response.redirect(request.url) : undefined,
    message: /redirects more than 10 times/,
  },
  {
    title: "a redirect to a file of this machine",
    answer: (_hub, _request, path) =>
      isWeights(path) ? new Response(null, { status: 302, headers: { location: "file:///etc/passwd" } }) : undefined,
    message: /redirects to file:.*refused/,
  },
  {
    title: "a redirect to a text",
    answer: (_hub, _request, path) =>
      isWeights(path) ? new Response(null, { status: 302, headers: { location: "data:,x" } }) : undefined,
    message: /redirects to data:.*refused/,
  },
  ...[-1, 0.5, "9", 1e300].map((size): Attack => ({
    title: `a file of ${JSON.stringify(size)} bytes`,
    answer: (hub, _, path) => isListing(path) ? listing(hub, (entry) => ({ ...entry, size })) : undefined,
    message: /lists .* without size or hash[^]*is it a model hub/,
  })),
  {
    title: "a hash that is a path",
    answer: (hub, _, path) =>
      isListing(path) ? listing(hub, (entry) => ({ ...entry, oid: "../".repeat(14) })) : undefined,
    message: /without size or hash/,
  },
  {
    title: "a commit that is a path",
    answer: (_hub, _request, path) =>
      path.includes("/revision/") ? Response.json({ sha: "../../other/name" }) : undefined,
    message: /does not tell the commit/,
  },
  {
    title: "entries that are no entries",
    answer: (_hub, _request, path) => isListing(path) ? Response.json([null, 7, "x", [], { type: "file" }]) : undefined,
    message: /is not a CogVideoX pipeline[^]*vae\/config.json is missing/,
  },
];

for (const { title, answer, message } of attacks) {
  Deno.test(`a hostile hub: ${title}`, () =>
    withHub(async (hub, options) => {
      hub.intercept = (request, path) => answer(hub, request, path);
      await assert.rejects(resolve("owner/name", { ...options, token: TOKEN }), (error: unknown) => {
        assert.ok(error instanceof UserError, `${error}`);
        assert.match(error.message, message);
        assert.ok(!error.message.includes(TOKEN));
        return true;
      });
      const folder = join(options.cacheFolder, "owner--name");
      assert.ok(!existsSync(join(folder, WEIGHTS)), "nothing is installed");
      // An honest hub is trusted again afterwards, and its files are the ones that are kept.
      hub.intercept = () => undefined;
      await resolve("owner/name", { ...options, token: TOKEN });
      assert.ok(existsSync(join(folder, WEIGHTS)));
    }));
}

Deno.test("a hostile hub: names that lead out of the cache are not asked for", () =>
  withHub(async (hub, options) => {
    const names = [
      "../config.json",
      "/etc/config.json",
      "vae/../../config.json",
      "vae/../config.json",
      "vae\\..\\..\\config.json",
      "tokenizer/../../../x.json",
      "tokenizer/%2e%2e%2fx.json",
      "tokenizer/x.json\0",
      "tokenizer/x.json\n",
      "tokenizer/.json",
      "transformer/diffusion_pytorch_model.safetensors/../../../x.safetensors",
      "transformer/diffusion_pytorch_model.fp16/../x.safetensors",
      "transformer/sub/diffusion_pytorch_model.safetensors",
      "vae/model.safetensors",
      "C:\\config.json",
      "vae/CON.json",
      "model_index.json/x",
    ];
    hub.intercept = (_, path) =>
      isListing(path)
        ? Response.json(
          [...hub.files].map(([path, bytes]) => entryOf(path, bytes)).concat(
            names.map((name) => entryOf(name, new Uint8Array(3))),
          ),
        )
        : undefined;
    const { folder } = await resolve("owner/name", options);
    const asked = hub.asked.filter((path) => path.includes("/resolve/")).map((path) =>
      path.replace(/^.*\/a{40}\//, "")
    );
    assert.deepEqual(asked.sort(), [...hub.files.keys()].sort());
    const kept = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    assert.equal(kept.length, hub.files.size + 3);
    assert.deepEqual(readdirSync(dirname(folder)), ["owner--name"]);
  }));

Deno.test("a hostile hub: the token goes nowhere else, whichever request is redirected or continued", () =>
  withHub((hub, options) =>
    withHub(async (other) => {
      const seen: (string | null)[] = [];
      other.intercept = (request, path) => {
        seen.push(request.headers.get("authorization"));
        // Half of the files are sent on to where they came from.
        return path.length % 2 === 0 ? undefined : Response.redirect(`${hub.endpoint}${path}?back`);
      };
      hub.intercept = (request, path) => {
        if (request.url.endsWith("?back")) return undefined;
        return isListing(path)
          ? Response.json([...hub.files].map(([path, bytes]) => entryOf(path, bytes)), {
            headers: { link: `<${other.endpoint}${path}>; rel="next"` },
          })
          : Response.redirect(`${other.endpoint}${path}`);
      };
      await resolve("owner/name", { ...options, token: TOKEN });
      assert.ok(seen.length > hub.files.size);
      assert.deepEqual([...new Set(seen)], [null]);
    })
  ));

Deno.test("a hub is asked over an encrypted connection or on this machine alone", () =>
  withHub(async (_, options) => {
    for (
      const endpoint of ["http://hub.example", "ftp://hub.example", "file:///tmp", "hub.example", "http://127.0.0.1.x"]
    ) {
      await assert.rejects(resolve("owner/name", { ...options, endpoint, token: TOKEN }), (error: Error) => {
        assert.match(error.message, /The address of the hub .*expected one that begins with https/);
        return true;
      });
    }
  }));
