/**
 * Requests over raw sockets that want what they must not get: of strangers, by other names, with other tokens, from other sites,
 * along other paths, malformed, without end. None may succeed, and none may keep the server from answering its user.
 */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { serveDashboard } from "../../../lib/cli/dashboard/server.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { HUNG } from "../../patience.ts";
import { writeRun } from "./pages.ts";

/** In files that nobody may read. */
const SECRET = "what-is-outside";
/** In what the holder of the token may read. */
const OWN = "what-is-inside";

const bytes = (text: string) => new TextEncoder().encode(text);

/** Milliseconds after which a request that is not to end by itself is ended. */
const ENDLESS = 500;

/** Sends a request as it stands, and returns what comes back until the server is done or that many milliseconds pass. */
async function talk(port: number, request: string, patience = HUNG): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const writing = (async () => {
    const all = bytes(request);
    for (let at = 0; at < all.length;) at += await connection.write(all.subarray(at));
  })().catch(() => {});
  let answer = "";
  const timer = setTimeout(() => connection.closeWrite().catch(() => {}), patience);
  try {
    const piece = new Uint8Array(1 << 16);
    for (let count; (count = await connection.read(piece)) !== null;) {
      answer += new TextDecoder().decode(piece.subarray(0, count));
    }
  } catch {
    // The server has closed the connection.
  } finally {
    clearTimeout(timer);
  }
  await writing;
  return answer;
}

/** What the attacks are made of. */
interface Target {
  readonly host: string;
  /** The header that the user's browser sends. */
  readonly cookie: string;
  readonly token: string;
}

const get = (path: string, ...headers: string[]) =>
  `GET ${path} HTTP/1.1\r\n${headers.map((line) => `${line}\r\n`).join("")}connection: close\r\n\r\n`;

const PATHS = ["/", "/a/", "/a", "/a/validation_res/0.mp4"];

/** Other users of this machine, who do not have the token, and those who guess. */
function strangers({ host, token, cookie }: Target): string[] {
  const at = `host: ${host}`;
  const other = (text: string) => (text[0] === "A" ? "B" : "A") + text.slice(1);
  const tokens = [
    "",
    "x",
    "null",
    "undefined",
    "*",
    "%00",
    token.slice(1),
    token.slice(0, -1),
    `${token}A`,
    other(token),
    `${token}%00`,
    `%20${token}`,
    token.toUpperCase() === token ? token.toLowerCase() : token.toUpperCase(),
    "A".repeat(22),
    "A".repeat(100_000),
    `${other(token)}&token=${token}`,
  ];
  const [name] = cookie.replace("cookie: ", "").split("=");
  return [
    ...PATHS.map((path) => get(path, at)),
    ...PATHS.map((path) => get(path, at, "range: bytes=0-9")),
    ...tokens.map((text) => get(`/?token=${text}`, at)),
    ...tokens.map((text) => get("/", at, `cookie: ${name}=${text}`)),
    // The right token where none belongs, or under another name.
    get("/", at, `authorization: Bearer ${token}`),
    get("/", at, `x-token: ${token}`),
    get("/", at, `referer: http://${host}/?token=${token}`),
    get("/", at, `cookie: token=${token}`),
    get("/", at, `cookie: cogtune=${token}`),
    get("/", at, `cookie: cogtune-1=${token}`),
    get("/", at, `cookie: x${name}=${token}`),
    get("/", at, `cookie: ${name}="${token}"`),
    get(`/?Token=${token}`, at),
    get(`/?token[]=${token}`, at),
    get(`/#token=${token}`, at),
    `POST / HTTP/1.1\r\n${at}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 28\r\nconnection: close\r\n\r\ntoken=${token}`,
  ];
}

/** Names that resolve to this machine, as DNS rebinding has them, with all that the user's browser knows. */
function otherHosts({ host, cookie, token }: Target): string[] {
  const port = host.split(":")[1]!;
  const hosts = [
    "evil.example",
    `evil.example:${port}`,
    `127.0.0.1.evil.example:${port}`,
    `localhost.evil.example:${port}`,
    `evil.example/127.0.0.1:${port}`,
    `127.0.0.1:${port}.evil.example`,
    `127.0.0.1:${port}@evil.example`,
    `evil.example@127.0.0.1:${port}`,
    `127.1:${port}`,
    `2130706433:${port}`,
    `0x7f.1:${port}`,
    `0.0.0.0:${port}`,
    `127.0.0.2:${port}`,
    `[::]:${port}`,
    `[::ffff:127.0.0.1]:${port}`,
    `localhost.:${port}`,
    `local%68ost:${port}`,
    `localhost:${port}, evil.example`,
    `localhost:${port}x`,
    "",
  ];
  return hosts.flatMap((name) => [
    get("/", `host: ${name}`, cookie),
    get(`/?token=${token}`, `host: ${name}`),
    get("/a/validation_res/0.mp4", `host: ${name}`, cookie),
  ]);
}

/** Pages of other sites, and of other servers of this machine, whose requests bear the cookie. */
function otherSites({ host, cookie }: Target): string[] {
  const port = Number(host.split(":")[1]);
  const origins = [
    "null",
    "https://evil.example",
    `http://evil.example:${port}`,
    "file://",
    `http://127.0.0.1:${port + 1}`,
  ];
  const upgrade = [
    "upgrade: websocket",
    "connection: Upgrade",
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    "sec-websocket-version: 13",
  ];
  return [
    ...[...origins, `https://${host}`, `http://localhost:${port}`].map((origin) =>
      get("/", `host: ${host}`, cookie, `origin: ${origin}`)
    ),
    get("/", `host: ${host}`, cookie, "origin: https://evil.example", ...upgrade),
  ];
}

/** Ways out of the folder for who has the token, towards a file of a type that is served. */
function paths({ host, cookie }: Target): string[] {
  const up = [
    "..",
    "%2e%2e",
    "%2E.",
    "%252e%252e",
    "..%00",
    "%c0%ae%c0%ae",
    "%uff0e%uff0e",
    "..;",
    "....//",
    ".%09.",
    "%2e%2e%2f..",
    "\u2025",
  ];
  const slashes = ["/", "%2f", "%5c", "\\", "%252f", "//"];
  const targets = up.flatMap((step) =>
    slashes.map((slash) => `/a${slash}${[step, step, step].join(slash)}${slash}secret.mp4`)
  );
  const absolute = (
    folder: string,
  ) => [folder, `/${folder}`, `/file:${folder}`, `/a/${encodeURIComponent(folder)}`, `/..${folder}`, `/%00${folder}`];
  const others = [
    "/a/link.mp4",
    "/a/.hidden/x.mp4",
    "/a/metrics.jsonl",
    "/a/index.html",
    "/a/config.yaml",
    "/a/state.safetensors",
    "/.lock",
    "/a/x.mp4::$DATA",
    "/a/secret.mp4%20",
    "/a/%2f%2f/secret.mp4",
    "/a/con.mp4",
  ];
  return [...targets, ...absolute("/proc/self/environ.mp4"), ...absolute("/etc/passwd"), ...others]
    .map((path) => get(path, `host: ${host}`, cookie));
}

const METHODS = [
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "CONNECT",
  "PROPFIND",
  "MKCOL",
  "MOVE",
  "get",
  "GETT",
  "PRI",
];

/** What no browser sends. */
function malformed({ host, cookie }: Target): string[] {
  const head = `host: ${host}\r\n${cookie}\r\n`;
  return [
    ...METHODS.map((method) => `${method} / HTTP/1.1\r\n${head}connection: close\r\ncontent-length: 0\r\n\r\n`),
    "\r\n\r\n\r\n",
    "GET\r\n\r\n",
    "GET /\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    `GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n${cookie}\r\nconnection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost: evil.example\r\n${head}connection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\n host: ${host}\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost : ${host}\r\n${cookie}\r\n\r\n`,
    `GET /a/\0 HTTP/1.1\r\n${head}\r\n`,
    `GET /\x01 HTTP/1.1\r\n${head}\r\n`,
    `GET / HTTP/1.1\r\n${head}a\0b: c\r\n\r\n`,
    `GET / HTTP/1.1\r\n${head}${"a".repeat(1 << 20)}: x\r\n\r\n`,
    `GET / HTTP/1.1\r\n${head}x: ${"a".repeat(4 << 20)}\r\n\r\n`,
    `GET / HTTP/1.1\r\n${head}${"x: y\r\n".repeat(20_000)}\r\n`,
    `GET /${"a".repeat(1 << 20)} HTTP/1.1\r\n${head}\r\n`,
    `GET / HTTP/1.1\r\n${cookie}${"; a=b".repeat(200_000)}\r\nhost: ${host}\r\n\r\n`,
    `POST / HTTP/1.1\r\n${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /a/ HTTP/1.1\r\nhost: evil.example\r\n\r\n`,
    `POST / HTTP/1.1\r\n${head}content-length: -1\r\n\r\n`,
    `POST / HTTP/1.1\r\n${head}content-length: 1e9\r\n\r\n`,
    `POST / HTTP/1.1\r\n${head}content-length: 99999999999999999999\r\n\r\n`,
    `POST / HTTP/1.1\r\n${head}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n`,
    `POST / HTTP/1.1\r\n${head}expect: 100-continue\r\ncontent-length: 1000000000\r\n\r\n`,
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "\0".repeat(1000),
    "A".repeat(1 << 20),
  ];
}

Deno.test("no attack on the dashboard succeeds, and its user is answered after each kind", () =>
  withFolder(async (parent) => {
    const root = join(parent, "runs");
    mkdirSync(root);
    await writeRun(join(root, "a"), { prompt: OWN, video: bytes(OWN) });
    writeFileSync(join(root, "a/validation_res/0.mp4"), OWN);
    writeFileSync(join(parent, "secret.mp4"), SECRET);
    mkdirSync(join(root, "a/.hidden"));
    writeFileSync(join(root, "a/.hidden/x.mp4"), SECRET);
    for (const name of ["config.yaml", "state.safetensors"]) writeFileSync(join(root, "a", name), SECRET);
    writeFileSync(join(root, ".lock"), SECRET);
    Deno.symlinkSync(join(parent, "secret.mp4"), join(root, "a/link.mp4"));
    await using dashboard = await serveDashboard(root, 0);
    const { port, searchParams } = new URL(dashboard.address);
    const token = searchParams.get("token")!;
    const target = { host: `127.0.0.1:${port}`, token, cookie: `cookie: cogtune-${port}=${token}` };
    const askHonestly = async () => {
      for (const path of ["/", "/a/", "/a/validation_res/0.mp4"]) {
        const answer = await talk(Number(port), get(path, `host: ${target.host}`, target.cookie));
        assert.ok(answer.startsWith("HTTP/1.1 200 ") && answer.includes(OWN), `${path}: ${answer.slice(0, 200)}`);
      }
    };
    await askHonestly();
    let attacks = 0, refusals = 0;
    const attack = async (
      requests: readonly string[],
      succeeds: (answer: string) => boolean,
      patience: number | undefined = undefined,
    ) => {
      for (let at = 0; at < requests.length; at += 16) {
        await Promise.all(
          requests.slice(at, at + 16).map(async (request) => {
            const answer = await talk(Number(port), request, patience);
            attacks++;
            if (/^HTTP\/1\.1 4/.test(answer)) refusals++;
            const isSuccess = answer.includes(SECRET) || succeeds(answer);
            assert.ok(!isSuccess, `${JSON.stringify(request.slice(0, 300))}\n${answer.slice(0, 500)}`);
          }),
        );
      }
      await askHonestly();
    };
    /** An answer of the server itself, or the one that gives a cookie. */
    const isLetIn = (answer: string) =>
      /^HTTP\/1\.1 [23]/.test(answer) || answer.includes(OWN) || /set-cookie/i.test(answer);
    for (const requests of [strangers, otherHosts, otherSites]) await attack(requests(target), isLetIn);
    await attack(malformed(target), isLetIn, ENDLESS);
    await attack(paths(target), () => false);
    // Half requests that are never finished, a hundred at a time.
    const open = await Promise.all(
      Array.from({ length: 100 }, () => Deno.connect({ hostname: "127.0.0.1", port: Number(port) })),
    );
    try {
      for (const connection of open) await connection.write(bytes("GET / HTTP/1.1\r\nhost: "));
      attacks += open.length;
      await askHonestly();
    } finally {
      for (const connection of open) connection.close();
    }
    assert.ok(attacks >= 300 && refusals >= 0.6 * attacks, `${attacks} attacks, ${refusals} answered with a refusal`);
    // deno-lint-ignore no-console
    console.log(`0 of ${attacks} attacks have succeeded, ${refusals} were answered with a refusal`);
  }));
