/** Nothing here unpacks an archive, whose entries could be named to lead out of a folder: models and clips come as files. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";

const root = fromFileUrl("../..", import.meta.url);

/** What knows compressed bytes: the checksum of PNG, and answers of servers that compress unasked, one file each. */
const KNOWN = ['lib/data/video/png.ts: import { crc32 } from "node:zlib";', "lib/io/http.ts: DecompressionStream"];

Deno.test("no archive is unpacked: no module for it is imported, no program for it is run", () => {
  const found = readdirSync(join(root, "lib"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .flatMap((name) => {
      const text = readFileSync(join(root, "lib", name), "utf8");
      const uses = text.match(
        /^import .*(?:zlib|tar|zip)\b.*|DecompressionStream|"(?:bsd|g|un)?(?:tar|zip|7z|xz)"(?!\])/gm,
      );
      return [...new Set(uses ?? [])].map((use) => `lib/${name}: ${use}`);
    });
  assert.deepEqual(found.filter((use) => !use.endsWith('"gzip"')).sort(), KNOWN);
  const { imports } = JSON.parse(readFileSync(join(root, "deno.json"), "utf8")) as { imports: Record<string, string> };
  assert.deepEqual(Object.keys(imports).filter((name) => /tar|zip|archive|compress/.test(name)), []);
});
