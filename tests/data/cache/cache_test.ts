import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { type CachedTensor, SampleCache } from "../../../lib/data/cache/cache.ts";
import { cacheKey, type CacheRequest, pixelFields } from "../../../lib/data/cache/key.ts";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { withFolder } from "../media.ts";

const request: CacheRequest = {
  kind: "latent",
  name: "videos/a.mp4",
  fields: { file: "00ff", frames: "0,1,2", tiling: true },
};

function tensor(seed: number): CachedTensor {
  const shape = [4, 2, 3, 5];
  return { shape, data: Float32Array.from({ length: 120 }, (_, i) => Math.fround(Math.sin(seed + i))) };
}

function withCache(body: (cache: SampleCache, path: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const cache = new SampleCache(join(folder, "cache"));
    await body(cache, cache.pathOf("latent", cacheKey(request)));
  });
}

Deno.test("cacheKey() changes with every field, the kind and nothing else", () => {
  const key = cacheKey(request);
  assert.match(key, /^[0-9a-f]{64}$/);
  assert.equal(cacheKey({ kind: "latent", fields: { tiling: true, frames: "0,1,2", file: "00ff" } }), key);
  const others = [
    cacheKey({ ...request, kind: "image" }),
    ...["00fe", "0,1", false].map((value, i) => {
      return cacheKey({ kind: "latent", fields: { ...request.fields, [["file", "frames", "tiling"][i]!]: value } });
    }),
    cacheKey({ kind: "latent", fields: { ...request.fields, extra: 1 } }),
    // Moving a character from one field to the next must not collide.
    cacheKey({ kind: "latent", fields: { ...request.fields, file: "00ff0", frames: ",1,2" } }),
  ];
  assert.equal(new Set([key, ...others]).size, others.length + 1);
});

Deno.test("pixelFields() depend on the file, frames, geometry, filter and decoder", () => {
  const geometry = fitGeometry({ width: 64, height: 36 }, { width: 32, height: 32 });
  const source = { fileHash: "aa", indices: [0, 3, 6], geometry, ffmpeg: "5.1" };
  const variants = [
    source,
    { ...source, fileHash: "ab" },
    { ...source, indices: [0, 3, 7] },
    { ...source, geometry: fitGeometry({ width: 64, height: 36 }, { width: 32, height: 32 }, "letterbox") },
    { ...source, geometry: fitGeometry({ width: 64, height: 37 }, { width: 32, height: 32 }) },
    { ...source, geometry: fitGeometry({ width: 64, height: 36 }, { width: 32, height: 48 }) },
    { ...source, filter: "bicubic" as const },
    { ...source, ffmpeg: "6.0" },
  ];
  const keys = variants.map((variant) => cacheKey({ kind: "latent", fields: pixelFields(variant) }));
  assert.equal(new Set(keys).size, variants.length);
});

Deno.test("SampleCache gives back what was stored, bit for bit", async () => {
  await withCache(async (cache) => {
    assert.equal(cache.read(request), undefined);
    await cache.write(request, tensor(1));
    assert.deepEqual(cache.read(request), tensor(1));
    assert.deepEqual(cache.describe("latent", cacheKey(request)), request);
    assert.deepEqual(cache.damaged, []);
  });
});

Deno.test("SampleCache writes the same bytes for the same content", async () => {
  await withCache(async (cache, path) => {
    await cache.write(request, tensor(1));
    const first = await Deno.readFile(path);
    await Deno.remove(path);
    await cache.write(request, tensor(1));
    assert.deepEqual(await Deno.readFile(path), first);
  });
});

Deno.test("SampleCache never uses a damaged, cut, empty or foreign entry, and removes it", async () => {
  await withCache(async (cache, path) => {
    await cache.write(request, tensor(1));
    const good = await Deno.readFile(path);
    const flipped = good.slice();
    flipped[good.length - 7]! ^= 4;
    const inHeader = good.slice();
    inHeader[30]! ^= 1;
    const other: CacheRequest = { ...request, fields: { ...request.fields, file: "1234" } };
    await cache.write(other, tensor(2));
    const foreign = await Deno.readFile(cache.pathOf("latent", cacheKey(other)));
    const oldVersion = new TextEncoder().encode(
      new TextDecoder("latin1").decode(good.slice(0, 60)).replace('"version":"1"', '"version":"0"'),
    );
    const bad = {
      flipped,
      inHeader,
      cut: good.subarray(0, good.length - 1),
      half: good.subarray(0, good.length >> 1),
      empty: new Uint8Array(),
      text: new TextEncoder().encode("hello"),
      foreign,
      oldVersion: new Uint8Array([...good.subarray(0, 8), ...oldVersion.subarray(8), ...good.subarray(60)]),
    };
    let found = 0;
    for (const [name, bytes] of Object.entries(bad)) {
      await Deno.writeFile(path, bytes);
      assert.equal(cache.read(request), undefined, name);
      assert.equal(cache.damaged.length, ++found, name);
      assert.equal(basename(cache.damaged.at(-1)!.path), basename(path));
      assert.equal(existsSync(path), false, name);
    }
  });
});

Deno.test("SampleCache stores no NaN or infinity and names the sample", async () => {
  await withCache(async (cache, path) => {
    for (const value of [NaN, Infinity, -Infinity]) {
      const poisoned = tensor(1);
      poisoned.data[17] = value;
      await assert.rejects(cache.write(request, poisoned), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, new RegExp(`latent of "videos/a.mp4" has the value ${value} at position 17`));
        return true;
      });
      await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
    }
    const largest = tensor(1);
    largest.data[0] = 3.4028234663852886e38;
    await cache.write(request, largest);
  });
});

Deno.test("SampleCache refuses a shape that does not fit the kind or the data", async () => {
  await withCache(async (cache) => {
    await assert.rejects(cache.write(request, { shape: [4, 30], data: tensor(1).data }), RangeError);
    await assert.rejects(cache.write(request, { shape: [4, 2, 3, 4], data: tensor(1).data }), RangeError);
    await cache.write({ kind: "prompt", name: "p", fields: {} }, { shape: [4, 30], data: tensor(1).data });
  });
});
