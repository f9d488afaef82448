/** What a server can do wrong, one row each: every fault ends the download with a message and a remedy of its own. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { partBytes } from "../../../lib/io/download.ts";
import { type FakeHub, resolve, withHub } from "../../models/folder/fake_hub.ts";
import { HUNG, until, withDeadline } from "../../patience.ts";

const WEIGHTS = "vae/diffusion_pytorch_model.safetensors";

const isListing = (path: string) => path.includes("/tree/");
const isWeights = (path: string) => path.endsWith(WEIGHTS);
const status = (status: number, headers: Record<string, string> = {}) => () => new Response(null, { status, headers });

/** Announces the whole and ends before it, but not before what was sent has arrived: the server would drop it. */
function torn(hub: FakeHub, folder: string): Response {
  const bytes = hub.files.get(WEIGHTS)!;
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(bytes.slice(0, 100));
      await until(() => partBytes(join(folder, WEIGHTS)) === 100, "the arrival of 100 bytes");
      controller.close();
    },
  });
  return new Response(body, { headers: { "content-length": `${bytes.length}` } });
}

/** Sends some of it and says nothing more. */
const silent = () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(9)) }));

const endless = () =>
  new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 16)) }));

interface Fault {
  /** Which requests are answered so. */
  readonly of: (path: string) => boolean;
  readonly answer: (hub: FakeHub, folder: string, request: Request) => Response;
  readonly says: RegExp;
}

const faults: Record<string, Fault> = {
  "no such model": {
    of: isListing,
    answer: status(404),
    says: /neither a folder "owner\/name" nor a model of this id/,
  },
  "no access without a token": {
    of: isListing,
    answer: status(401),
    says: /answers 401[^]*accept its terms at .* HF_TOKEN/,
  },
  "terms not accepted": {
    of: isWeights,
    answer: status(403, { "x-error-code": "GatedRepo" }),
    says: /answers 403[^]*accept its terms/,
  },
  "a hidden model": {
    of: isListing,
    answer: status(401, { "x-error-code": "RepoNotFound" }),
    says: /answers 401[^]*check the spelling; for a private model/,
  },
  "a request it does not understand": { of: isWeights, answer: status(400), says: /answers 400/ },
  "a file that is gone": { of: isWeights, answer: status(410), says: /answers 410/ },
  "a redirect to nowhere": { of: isWeights, answer: status(302), says: /answers 302/ },
  "too many requests": { of: isWeights, answer: status(429), says: /answers 429.*given up after 2/ },
  "a time-out": { of: isWeights, answer: status(408), says: /answers 408.*given up after 2/ },
  "a fault of its own": { of: isWeights, answer: status(500), says: /answers 500.*given up after 2/ },
  "a gateway that does not reach it": { of: isWeights, answer: status(502), says: /answers 502.*given up after 2/ },
  "maintenance": { of: isListing, answer: status(503), says: /answers 503.*given up after 2/ },
  "a connection that breaks": { of: isWeights, answer: torn, says: /given up after 2/ },
  "a file that is shorter than listed": {
    of: isWeights,
    answer: () => new Response(new Uint8Array(9)),
    says: /has 9 bytes, expected \d+ \(given up/,
  },
  "a file that is longer than listed": {
    of: isWeights,
    answer: endless,
    says: /sends more than the expected \d+ bytes/,
  },
  "silence": { of: isWeights, answer: silent, says: /has sent nothing for [\d.]+ s/ },
  "other bytes": {
    of: isWeights,
    answer: (hub) => new Response(hub.files.get(WEIGHTS)!.map((byte) => byte ^ 1)),
    says: /its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}/,
  },
  "another text": {
    of: (path) => path.endsWith("vae/config.json"),
    answer: (hub) => new Response(hub.files.get("vae/config.json")!.toReversed()),
    says: /its git object id is [0-9a-f]{40}, expected [0-9a-f]{40}/,
  },
  "a continuation at another byte": {
    of: isWeights,
    answer: (hub, folder, request) =>
      request.headers.has("range") ? new Response(null, { status: 416 }) : torn(hub, folder),
    says: /cannot continue at byte 100/,
  },
  "redirects in a circle": {
    of: isWeights,
    answer: (_hub, _folder, request) => Response.redirect(request.url),
    says: /redirects more than 10 times/,
  },
  "a redirect to an address that is not encrypted": {
    of: isWeights,
    answer: status(302, { location: "ftp://elsewhere/file" }),
    says: /redirects to ftp:\/\/elsewhere, which is not encrypted/,
  },
  "a web page in place of a listing": {
    of: isListing,
    answer: () => new Response("<html>log in"),
    says: /something that is not JSON: "<html>log in"/,
  },
  "a listing without end": { of: isListing, answer: endless, says: /more than 16777216 bytes where a short list/ },
  "pages without end": {
    of: isListing,
    answer: (_hub, _folder, request) => Response.json([], { headers: { link: `<${request.url}>; rel="next"` } }),
    says: /lists the files of "owner\/name" without end/,
  },
  "no commit": {
    of: (path) => path.includes("/revision/"),
    answer: () => Response.json({}),
    says: /does not tell the commit/,
  },
  "files without sizes": {
    of: isListing,
    answer: (hub) => Response.json([...hub.files.keys()].map((path) => ({ type: "file", path }))),
    says: /lists .* without size or hash/,
  },
};

/** What is left of a message when names, numbers and addresses are taken away. */
const kindOf = (message: string) =>
  message.replace(/https?:\S+|[0-9a-f]{40,}/g, "…").replaceAll(/(?<!answers )\b\d+\b/g, "N");

const told = new Map<string, string>();

for (const [name, { of, answer, says }] of Object.entries(faults)) {
  const ends = (stall: number) =>
    withHub(async (hub, options) => {
      const folder = join(options.cacheFolder, "owner--name");
      hub.intercept = (request, path) => of(path) ? answer(hub, folder, request) : undefined;
      const error = await resolve("owner/name", { ...options, stall }).then(() => undefined, (error) => error);
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(error.message, says);
      assert.ok(error.hint !== undefined, `no remedy: ${error.message}`);
      assert.ok(!existsSync(join(folder, WEIGHTS)), "nothing is installed");
      told.set(name, kindOf(error.message));
    });
  Deno.test(`a server with ${name}`, () => answer === silent ? withDeadline(200, ends) : ends(HUNG));
}

Deno.test("a server that is not there, or speaks another protocol", () =>
  withHub(async (hub, { cacheFolder }) => {
    for (
      const [name, endpoint, says] of [
        // A port that was free a moment ago may be that of another test by then; nobody is given this one.
        ["nobody at the address", "http://127.0.0.1:2", /refused/i],
        ["no encryption where it is expected", hub.endpoint.replace("http:", "https:"), /InvalidContentType/],
        ["a name that is none", "https://hub.invalid", /dns error/],
      ] as const
    ) {
      const error = await resolve("owner/name", { cacheFolder, endpoint }).then(() => undefined, (error) => error);
      assert.ok(error instanceof UserError && error.hint !== undefined, `${error}`);
      assert.match(error.message, says);
      told.set(name, kindOf(error.message));
    }
    assert.deepEqual(readdirSync(cacheFolder), [], "an id that was never listed leaves nothing behind");
  }));

Deno.test("29 faults have 29 messages", () => {
  assert.equal(told.size, 29);
  const texts = [...told.values()];
  assert.deepEqual(texts.filter((text, i) => texts.indexOf(text) !== i), []);
});
