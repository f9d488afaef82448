/** What the dashboard gives out and what it keeps: hosts, paths, links, ranges, types, policies. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Door } from "../../../lib/cli/dashboard/door.ts";
import { RunFolder } from "../../../lib/cli/dashboard/runs.ts";
import { respond, serveDashboard } from "../../../lib/cli/dashboard/server.ts";
import { readPageData } from "../../../lib/io/html_page.ts";
import { readRunPage } from "../../../lib/train/report/page/page_data.ts";
import { HOSTILE, writeRun } from "./pages.ts";

async function inRuns(body: (folder: string, ask: Ask) => Promise<void>): Promise<void> {
  const parent = Deno.makeTempDirSync();
  try {
    const root = join(parent, "runs");
    mkdirSync(root);
    const folder = new RunFolder(root);
    const door = new Door();
    const cookie = door.query.replace("?token", "cogtune-8642");
    const ask: Ask = (path, headers = {}, method = "GET") => {
      const all = { host: "127.0.0.1:8642", cookie, ...headers };
      return respond(folder, door, new Request(`http://127.0.0.1:8642${path}`, { headers: all, method }));
    };
    await body(root, ask);
  } finally {
    Deno.removeSync(parent, { recursive: true });
  }
}

type Ask = (path: string, headers?: Record<string, string>, method?: string) => Promise<Response>;

/** Status of an answer whose body nobody reads. */
async function statusOf(answer: Promise<Response>): Promise<number> {
  const { status, body } = await answer;
  await body?.cancel();
  return status;
}

const VIDEO = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7 % 251);

Deno.test("the dashboard answers to names of this machine alone, and to reading alone", () =>
  inRuns(async (root, ask) => {
    await writeRun(join(root, "a"), { video: VIDEO });
    for (const host of ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8642", "LOCALHOST:80"]) {
      assert.equal(await statusOf(ask("/", { host })), 200, host);
    }
    // Names that resolve to this machine, by chance or by intent, and that look like its own.
    for (
      const host of [
        "evil.example",
        "evil.example:8642",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "192.168.0.2",
      ]
    ) {
      for (const path of ["/", "/a/", "/a/validation_res/0.mp4"]) {
        assert.equal(await statusOf(ask(path, { host })), 421, `${host} ${path}`);
      }
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      assert.equal(await statusOf(ask("/", {}, method)), 405, method);
    }
  }));

Deno.test("the dashboard gives out media of its folder and nothing else, by no way around", () =>
  inRuns(async (root, ask) => {
    await writeRun(join(root, "a"), { video: VIDEO });
    const outside = join(root, "../secret.mp4");
    writeFileSync(outside, "secret");
    symlinkSync(outside, join(root, "a/link.mp4"));
    symlinkSync(join(root, ".."), join(root, "up"));
    symlinkSync(join(root, "a/validation_res/0.mp4"), join(root, "a/inside.mp4"));
    mkdirSync(join(root, "a/.hidden"));
    writeFileSync(join(root, "a/.hidden/x.mp4"), "hidden");
    mkdirSync(join(root, "a/folder.mp4"));
    for (const path of ["/a/validation_res/0.mp4", "/a/inside.mp4", "/a//validation_res/0.mp4"]) {
      assert.equal(await statusOf(ask(path)), 200, path);
    }
    for (
      const path of [
        ...["/a/link.mp4", "/up/secret.mp4", "/up/"],
        ...["/%2e%2e/secret.mp4", "/a/..%2f..%2fsecret.mp4", "/a/%2e%2e%2f%2e%2e%2fsecret.mp4", "/..%5csecret.mp4"],
        ...["/a/.hidden/x.mp4", "/a/folder.mp4", "/%00.mp4", "/%ff.mp4", "//etc/passwd", "/a/missing.mp4"],
        ...[
          "/a/metrics.jsonl",
          "/a/index.html",
          "/a/checkpoint-40/state.safetensors",
          "/a/.lock",
          "/b/",
          "/a/validation_res/",
        ],
      ]
    ) assert.equal(await statusOf(ask(path)), 404, path);
    // A run that a link brings in from elsewhere is none of this folder.
    await writeRun(join(root, "../elsewhere"));
    symlinkSync(join(root, "../elsewhere"), join(root, "b"));
    assert.equal(await statusOf(ask("/b/")), 404);
  }));

Deno.test("the dashboard gives players the ranges that they ask for (RFC 9110, section 14)", () =>
  inRuns(async (root, ask) => {
    await writeRun(join(root, "a"), { video: VIDEO });
    const path = "/a/validation_res/0.mp4";
    const size = VIDEO.length;
    for (
      const [range, first, last] of [
        ["bytes=0-0", 0, 0],
        ["bytes=100-", 100, size - 1],
        ["bytes=100-199999999", 100, size - 1],
        ["bytes=-70000", size - 70000, size - 1],
      ] as const
    ) {
      const answer = await ask(path, { range });
      assert.equal(answer.status, 206, range);
      assert.equal(answer.headers.get("content-range"), `bytes ${first}-${last}/${size}`);
      assert.equal(answer.headers.get("content-length"), String(last - first + 1));
      assert.deepEqual(await answer.bytes(), VIDEO.slice(first, last + 1), range);
    }
    for (const range of ["bytes=-999999999", "bytes=0-", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "bytes=a-b"]) {
      const answer = await ask(path, { range });
      assert.equal(answer.status, 200, range);
      assert.deepEqual(await answer.bytes(), VIDEO, range);
    }
    for (const range of [`bytes=${size}-`, "bytes=5-4", "bytes=-0"]) {
      const answer = await ask(path, { range });
      assert.deepEqual([answer.status, answer.headers.get("content-range")], [416, `bytes */${size}`], range);
    }
    const whole = await ask(path, {}, "HEAD");
    assert.deepEqual([whole.status, whole.body, whole.headers.get("content-type")], [200, null, "video/mp4"]);
    const etag = whole.headers.get("etag")!;
    assert.equal(await statusOf(ask(path, { "if-none-match": etag })), 304);
    assert.equal(await statusOf(ask(path, { range: "bytes=0-9", "if-range": etag })), 206);
    assert.equal(await statusOf(ask(path, { range: "bytes=0-9", "if-range": '"other"' })), 200);
  }));

Deno.test("the dashboard draws pages from their data alone, under a policy that names its own script", () =>
  inRuns(async (root, ask) => {
    assert.match(await (await ask("/")).text(), /No run yet/);
    await writeRun(join(root, "a b"), { prompt: HOSTILE, video: VIDEO });
    const path = join(root, "a b/index.html");
    const planted = Deno.readTextFileSync(path).replace("<body>", "<body><script>planted()</script>");
    Deno.writeTextFileSync(path, planted);
    assert.equal((await ask("/a%20b")).headers.get("location"), "/a%20b/");
    const answer = await ask("/a%20b/");
    const html = await answer.text();
    assert.equal(html.includes("planted"), false);
    assert.deepEqual(readRunPage(html)!.notes, readRunPage(planted)!.notes);
    const policy = answer.headers.get("content-security-policy")!;
    assert.match(policy, /^default-src 'none'.*script-src 'sha256-[^ ]+'; .*frame-ancestors 'none'$/);
    assert.equal(/unsafe|https?:|\*/.test(policy), false);
    assert.equal(answer.headers.get("content-type"), "text/html; charset=utf-8");
    for (
      const [name, value] of [["x-content-type-options", "nosniff"], ["cross-origin-resource-policy", "same-origin"]]
    ) {
      assert.equal(answer.headers.get(name!), value);
    }
    const compared = readPageData(await (await ask("/")).text()) as { runs: { samples: { address: string }[] }[] };
    assert.deepEqual(compared.runs[0]!.samples.map(({ address }) => address), ["a%20b/validation_res/40.mp4"]);
  }));

Deno.test("a page of another hand that leads out of its folder is no page", () =>
  inRuns(async (root, ask) => {
    await writeRun(join(root, "a"));
    const html = Deno.readTextFileSync(join(root, "a/index.html"));
    for (
      const address of [
        "https://evil.example/x.mp4",
        "//evil.example/x.mp4",
        "javascript:alert(1)",
        "../x.mp4",
        "/x.mp4",
        "a/%2E%2e/x.mp4",
        ".x",
        "a\\\\b",
      ]
    ) {
      const planted = html.replace("validation_res/40.mp4", address);
      assert.notEqual(planted, html);
      assert.equal(readRunPage(planted), undefined, address);
    }
    Deno.writeTextFileSync(join(root, "a/index.html"), html.replace("validation_res/40.mp4", "../x.mp4"));
    assert.match(await (await ask("/")).text(), /No run yet/);
  }));

Deno.test("serveDashboard() listens on the loopback address alone, and says which port is taken", () =>
  inRuns(async (root) => {
    await writeRun(root);
    await using dashboard = await serveDashboard(root, 0);
    const [, port, token] = /^http:\/\/127\.0\.0\.1:(\d+)\/\?token=([\w-]{22})$/.exec(dashboard.address)!;
    const entered = await fetch(dashboard.address, { redirect: "manual" });
    assert.deepEqual([entered.status, entered.headers.get("location")], [303, "/"]);
    const expected = `cogtune-${port}=${token}; Path=/; HttpOnly; SameSite=Strict`;
    assert.equal(entered.headers.get("set-cookie"), expected);
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { cookie: `a=b; ${expected}` } });
    assert.equal(readRunPage(await answer.text())!.step, 40);
    await assert.rejects(serveDashboard(root, Number(port)), /Port \d+ is taken/);
    for (const { address, family } of Deno.networkInterfaces()) {
      if (family !== "IPv4" || address.startsWith("127.")) continue;
      await assert.rejects(fetch(`http://${address}:${port}/`), address);
    }
  }));
