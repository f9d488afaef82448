/** Cache folders as other programs, other people and bad luck leave them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import { collectGarbage } from "../../../lib/data/cache/collect.ts";
import { FileHashes } from "../../../lib/data/cache/file_hashes.ts";
import { CACHE_VERSION, cacheKey, type CacheRequest } from "../../../lib/data/cache/key.ts";
import { planCache } from "../../../lib/data/cache/plan.ts";
import { useEntries } from "../../../lib/data/cache/usage.ts";
import { UserError } from "../../../lib/errors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { withFolder } from "../media.ts";

const request: CacheRequest = { kind: "prompt", name: "a.mp4", fields: { text: "a dog" } };
const key = cacheKey(request);
const content = { shape: [1, 2], data: Float32Array.of(3, 4) };

function withEntry(body: (cache: SampleCache, path: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const cache = new SampleCache(join(folder, "cache"));
    await cache.write(request, content);
    await body(cache, cache.pathOf("prompt", key));
  });
}

const named = (name: string, dtype: TensorToWrite["dtype"] = "F32", shape = [1, 2]): TensorToWrite => {
  const count = shape.reduce((a, b) => a * b, 1);
  return { name, dtype, shape, data: dtype === "F32" ? new Float32Array(count) : new Uint16Array(count) };
};

Deno.test("an entry of the right name that holds something else is dropped, and says what it should hold", () =>
  withEntry(async (cache, path) => {
    const others = [
      [named("latent")],
      [named("embedding", "F16")],
      [named("embedding", "F32", [2])],
      [named("embedding"), named("extra")],
      [],
    ];
    for (const [i, tensors] of others.entries()) {
      await writeSafetensors(path, tensors, { metadata: { key, version: `${CACHE_VERSION}` } });
      assert.equal(cache.read(request), undefined);
      assert.match(cache.damaged[i]!.reason, /does not hold one f32 tensor "embedding" with 2 axes/);
      assert.equal(existsSync(path), false);
    }
  }));

Deno.test("folders, links to nowhere and files in the wrong places are replaced, passed over or named", () =>
  withEntry(async (cache, path) => {
    await Deno.remove(path);
    mkdirSync(join(path, "inside"), { recursive: true });
    assert.equal(cache.read(request), undefined);
    assert.match(cache.damaged[0]!.reason, /is not a file/);
    await cache.write(request, content);
    assert.deepEqual(cache.read(request), content);

    await Deno.remove(path);
    symlinkSync(join(cache.folder, "nowhere"), path);
    assert.deepEqual(await collectGarbage(cache, 0), { removed: 0, bytes: 0 });
    assert.equal(cache.read(request), undefined);
    await cache.write(request, content);
    assert.deepEqual(cache.read(request), content);

    await Deno.remove(dirname(path), { recursive: true });
    writeFileSync(dirname(path), "in the way");
    assert.equal(cache.read(request), undefined);
    await assert.rejects(cache.write(request, content), /Cannot create ".*prompt": a file stands where a folder/);
    const inTheWay = dirname(path);
    await assert.rejects(useEntries(inTheWay, []), (error) => error instanceof UserError && /lock/.test(error.message));
    await Deno.remove(join(cache.folder, "in-use"), { recursive: true });
    writeFileSync(join(cache.folder, "in-use"), "");
    await assert.rejects(useEntries(cache.folder, []), /Cannot write ".*in-use.*": a file stands where a folder/);
  }));

Deno.test("entries that do not say what they were made from count as new", () =>
  withEntry(async (cache, path) => {
    const fields = { text: "a cat" };
    const asked = { ...request, fields };
    assert.deepEqual((await planCache(cache, [asked])).changed[0]!.changed, ["text"]);
    const said: Record<string, string>[] = [{}, { name: "a.mp4" }, { name: "a.mp4", fields: "{" }, { fields: "{}" }];
    for (const metadata of said) {
      await writeSafetensors(path, [named("embedding")], { metadata });
      const { reused, new: fresh, changed } = await planCache(cache, [asked]);
      assert.deepEqual([reused.length, fresh.length, changed.length], [0, 1, 0]);
    }
    // What is said, but is no list of fields, differs in every field.
    await writeSafetensors(path, [named("embedding")], { metadata: { name: "a.mp4", fields: "null" } });
    assert.deepEqual((await planCache(cache, [asked])).changed[0]!.changed, ["text"]);
  }));

Deno.test("a run that ends while another looks who uses what does not disturb it", () =>
  withEntry(async (cache) => {
    using _used = await useEntries(cache.folder, [key]);
    // Listed, and gone when it is opened.
    symlinkSync(join(cache.folder, "gone"), join(cache.folder, "in-use", "1-0123456789ab"));
    assert.deepEqual(await collectGarbage(cache, 0), { removed: 0, bytes: 0 });
    assert.deepEqual(cache.read(request), content);
    mkdirSync(join(cache.folder, "in-use", "folder"));
    await assert.rejects(collectGarbage(cache, 0), /Cannot read ".*folder": a file stands where a folder .* reverse/);
  }));

Deno.test("FileHashes.save() forgets files whose folder became a file or whose links lead in a circle", () =>
  withFolder(async (folder) => {
    const [there, below, circle] = ["there", "folder/below", "circle"].map((name) => join(folder, name));
    writeFileSync(there!, "1");
    writeFileSync(join(folder, "folder"), "2");
    symlinkSync(circle!, circle!);
    const remembered = { size: "1", mtimeNs: "1", ctimeNs: "1", inode: "1", sha256: "1" };
    const memory = Object.fromEntries([there, below, circle].map((path) => [path, remembered]));
    writeFileSync(join(folder, "file-hashes.json"), JSON.stringify(memory));
    await (await FileHashes.open(folder)).save();
    assert.deepEqual(JSON.parse(await Deno.readTextFile(join(folder, "file-hashes.json"))), { [there!]: remembered });
  }));

Deno.test("FileHashes reads a file again that changes under it", () =>
  withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    // More than the block that is read at once.
    writeFileSync(path, new Uint8Array(5 << 20));
    const hashes = await FileHashes.open(folder);
    const running = hashes.file(path);
    const later = new Uint8Array(6 << 20).fill(1);
    writeFileSync(path, later);
    assert.equal(await running, createHash("sha256").update(later).digest("hex"));
    assert.equal(hashes.hashed, 2);
  }));
