/** What garbage collection removes, and what runs that share a cache keep from each other's. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, utimesSync } from "node:fs";
import { basename, join } from "node:path";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import { collectGarbage } from "../../../lib/data/cache/collect.ts";
import { cacheKey, type CacheRequest } from "../../../lib/data/cache/key.ts";
import { useEntries } from "../../../lib/data/cache/usage.ts";
import { fromFileUrl } from "../../paths.ts";
import { withFolder } from "../media.ts";

const requests = [0, 1, 2, 3].map((i): CacheRequest => ({ kind: "latent", name: `${i}`, fields: { i } }));

/** Four entries of one size, the first unused for four days, the last for one. */
function withEntries(body: (cache: SampleCache, size: number, left: () => number[]) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const cache = new SampleCache(folder);
    for (const [i, request] of requests.entries()) {
      await cache.write(request, { shape: [2, 1, 3, 5], data: new Float32Array(30).fill(i) });
      const lastUse = new Date(Date.now() - (4 - i) * 86_400_000);
      utimesSync(pathOf(cache, request), lastUse, lastUse);
    }
    const { size } = await Deno.stat(pathOf(cache, requests[0]!));
    const left = () => requests.flatMap((request, i) => existsSync(pathOf(cache, request)) ? [i] : []);
    await body(cache, size, left);
  });
}

function pathOf(cache: SampleCache, request: CacheRequest): string {
  return cache.pathOf(request.kind, cacheKey(request));
}

Deno.test("collectGarbage() removes the entries unused longest, and no more than the limit asks for", () =>
  withEntries(async (cache, size, left) => {
    assert.deepEqual(await collectGarbage(cache, 4 * size), { removed: 0, bytes: 0 });
    assert.deepEqual(await collectGarbage(cache, 2.5 * size), { removed: 2, bytes: 2 * size });
    assert.deepEqual(left(), [2, 3]);
    // Reading is a use.
    assert.ok(cache.read(requests[2]!) !== undefined);
    await collectGarbage(cache, size);
    assert.deepEqual(left(), [2]);
  }));

Deno.test("collectGarbage() keeps what is in use, until its user is done", () =>
  withEntries(async (cache, size, left) => {
    {
      using _used = await useEntries(cache.folder, [0, 3].map((i) => cacheKey(requests[i]!)));
      assert.deepEqual(await collectGarbage(cache, 0), { removed: 2, bytes: 2 * size });
      assert.deepEqual(left(), [0, 3]);
    }
    await collectGarbage(cache, 0);
    assert.deepEqual(left(), []);
  }));

Deno.test("an entry in use by another process stays, until that process is killed", () =>
  withEntries(async (cache, _size, left) => {
    const usage = fromFileUrl("../../../lib/data/cache/usage.ts", import.meta.url);
    const program = `const { useEntries } = await import(${JSON.stringify(`file://${usage}`)});
      await useEntries(Deno.args[0], [Deno.args[1]]);
      console.log("using");
      setInterval(() => {}, 1000);`;
    const args = ["eval", program, cache.folder, cacheKey(requests[1]!)];
    const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    assert.equal(new TextDecoder().decode((await reader.read()).value), "using\n");
    await collectGarbage(cache, 0);
    assert.deepEqual(left(), [1]);
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    await collectGarbage(cache, 0);
    assert.deepEqual(left(), []);
    assert.deepEqual(readdirSync(join(cache.folder, "in-use")), []);
  }));

Deno.test("collectGarbage() clears what killed processes left, and nothing that is being written", () =>
  withEntries(async (cache) => {
    const folder = join(cache.folder, "latent");
    const name = basename(pathOf(cache, requests[0]!));
    const [left, running] = [`.${name}.tmp-0123456789ab`, `.${name}.tmp-ba9876543210`];
    for (const each of [left, running]) await Deno.writeTextFile(join(folder, each), "x");
    const before = new Date(Date.now() - 2 * 3_600_000);
    utimesSync(join(folder, left), before, before);
    await collectGarbage(cache, Infinity);
    assert.equal(existsSync(join(folder, left)), false);
    assert.equal(existsSync(join(folder, running)), true);
  }));
