import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { FileHashes } from "../../../lib/data/cache/file_hashes.ts";
import { withFolder } from "../media.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const settle = () => new Promise((resolve) => setTimeout(resolve, 2200));

Deno.test("FileHashes remembers hashes between runs and notices every change, even with the old size and time", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    await Deno.writeTextFile(path, "weights A");
    const { mtime } = await Deno.stat(path);
    await settle();
    const first = await FileHashes.open(folder);
    assert.equal(await first.file(path), sha256("weights A"));
    assert.equal(await first.file(path), sha256("weights A"));
    assert.equal(first.hashed, 1);
    await first.save();

    const second = await FileHashes.open(folder);
    assert.equal(await second.file(path), sha256("weights A"));
    assert.equal(second.hashed, 0);

    // An estimate knows what is remembered, and reads nothing else.
    const other = join(folder, "other.safetensors");
    await Deno.writeTextFile(other, "weights C");
    const estimate = await FileHashes.open(folder, { estimate: true });
    assert.equal(await estimate.file(path), sha256("weights A"));
    assert.notEqual(await estimate.file(other), sha256("weights C"));
    assert.equal(await estimate.file(other), await estimate.file(other));
    assert.equal(estimate.hashed, 0);

    await Deno.writeTextFile(path, "weights B");
    await Deno.utime(path, mtime!, mtime!);
    assert.equal(await second.file(path), sha256("weights B"));
    assert.equal(second.hashed, 1);
  });
});

Deno.test("FileHashes does not trust a file that has just changed", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    const hashes = await FileHashes.open(folder);
    for (const text of ["one", "two", "six"]) {
      await Deno.writeTextFile(path, text);
      // However long a busy machine pauses here.
      const soon = new Date(Date.now() + 60_000);
      await Deno.utime(path, soon, soon);
      assert.equal(await hashes.file(path), sha256(text));
    }
    await hashes.save();
    assert.equal(await Deno.readTextFile(join(folder, "file-hashes.json")), "{}\n");
  });
});

Deno.test("FileHashes.files() covers the contents of all files, in their order", async () => {
  await withFolder(async (folder) => {
    const paths = ["a.safetensors", "config.json"].map((name) => join(folder, name));
    for (const path of paths) await Deno.writeTextFile(path, path);
    const hash = async (...of: string[]) => await (await FileHashes.open(folder)).files(of);
    const all = await hash(...paths);
    assert.equal(all, sha256(paths.map(sha256).join("")));
    await Deno.writeTextFile(paths[1]!, "{ }");
    assert.notEqual(await hash(...paths), all);
  });
});

Deno.test("FileHashes starts again from a damaged memory", async () => {
  await withFolder(async (folder) => {
    for (const text of ["", "{", "[]", "null", '{"/x": 3}', '{"/x": {"size": 1}}']) {
      await Deno.writeTextFile(join(folder, "file-hashes.json"), text);
      await Deno.writeTextFile(join(folder, "a"), "a");
      const hashes = await FileHashes.open(folder);
      assert.equal(await hashes.file(join(folder, "a")), sha256("a"));
      await hashes.save();
    }
  });
});
