import assert from "node:assert/strict";
import { openSync, readdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { parseTemporaryName, temporaryName, writeFileAtomic } from "../../lib/io/atomic.ts";
import { fileOperations } from "../../lib/io/file_operations.ts";
import { faultyOperations, Killed, withFolder } from "./faulty_operations.ts";

Deno.test("writeFileAtomic: text, bytes and a sink", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.json");
    await writeFileAtomic(path, "héllo");
    assert.equal(readFileSync(path, "utf8"), "héllo");
    await writeFileAtomic(path, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...readFileSync(path)], [1, 2, 3]);
    await writeFileAtomic(path, async (sink) => {
      sink.write(Uint8Array.of(4));
      await Promise.resolve();
      sink.write(Uint8Array.of(5, 6));
      assert.equal(sink.size, 3);
    });
    assert.deepEqual([...readFileSync(path)], [4, 5, 6]);
    assert.deepEqual(readdirSync(folder), ["a.json"]);
  }));

Deno.test("writeFileAtomic: content is on disk before the name, the name before the call returns", () =>
  withFolder(async (folder) => {
    const operations = faultyOperations();
    await writeFileAtomic(join(folder, "a"), "text", { operations });
    const kinds = operations.log.map((line) => line.split(" ")[0]);
    assert.deepEqual(kinds.filter((kind) => kind !== "write"), ["create", "sync", "rename", "syncPath"]);
    assert.ok(kinds.lastIndexOf("write") < kinds.indexOf("sync"));
  }));

for (const kind of ["ENOSPC", "EIO", "KILL"]) {
  Deno.test(`writeFileAtomic: ${kind} at every operation leaves the earlier file or the new one`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "a");
      for (let at = 1;; at++) {
        writeFileSync(path, "earlier");
        const operations = faultyOperations({ at, kind });
        const failure = await writeFileAtomic(path, "the new text", { operations }).then(() => undefined, (e) => e);
        const text = readFileSync(path, "utf8");
        if (failure === undefined) {
          assert.equal(text, "the new text");
          assert.ok(at > 6, `only ${at} operations`);
          break;
        }
        const renamed = operations.log.some((line) => line.startsWith("syncPath"));
        assert.equal(text, renamed ? "the new text" : "earlier");
        if (kind === "KILL") assert.ok(failure instanceof Killed);
        else {
          assert.ok(failure instanceof UserError);
          assert.deepEqual(readdirSync(folder), ["a"]);
          assert.equal(operations.log.filter((line) => line.startsWith("sync ")).length <= 1, true);
        }
      }
    }));
}

Deno.test("writeFileAtomic: a full disk names the bytes wanted and the bytes free", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a");
    // The kernel's own ENOSPC, from the device that is always full.
    const operations = { ...fileOperations, create: () => openSync("/dev/full", "w") };
    await assert.rejects(
      writeFileAtomic(path, (sink) => sink.write(new Uint8Array(100)), { operations, expectedBytes: 12345 }),
      (error) => error instanceof UserError && /disk is full; 12345 bytes are wanted, \d+ bytes/.test(error.message),
    );
    assert.deepEqual(readdirSync(folder), []);
  }));

Deno.test("writeFileAtomic: a stream of unknown size names what it came to", () =>
  withFolder(async (folder) => {
    const operations = { ...fileOperations, create: () => openSync("/dev/full", "w") };
    await assert.rejects(
      writeFileAtomic(join(folder, "a"), (sink) => sink.write(new Uint8Array(100)), { operations }),
      /disk is full; at least 100 bytes are wanted/,
    );
  }));

Deno.test("writeFileAtomic: refuses to begin when the disk can't hold the file", () =>
  withFolder(async (folder) => {
    const { bavail, bsize } = statfsSync(folder);
    const operations = faultyOperations();
    await assert.rejects(
      writeFileAtomic(join(folder, "a"), () => {}, { expectedBytes: bavail * bsize * 2 + 1, operations }),
      /Not enough disk space/,
    );
    assert.deepEqual(operations.log, []);
  }));

Deno.test("writeFileAtomic: a content function that throws leaves nothing", () =>
  withFolder(async (folder) => {
    const cause = new Error("from the callback");
    await assert.rejects(
      writeFileAtomic(join(folder, "a"), () => {
        throw cause;
      }),
      (error) => error === cause,
    );
    assert.deepEqual(readdirSync(folder), []);
  }));

Deno.test("writeFileAtomic: a missing folder is a user error", () =>
  withFolder(async (folder) => {
    await assert.rejects(writeFileAtomic(join(folder, "no", "a"), "x"), /its folder does not exist/);
  }));

Deno.test("temporary names are recognised, look-alikes are not", () => {
  for (const kind of ["tmp", "old", "trash"] as const) {
    const name = basename(temporaryName("out/checkpoint-7", kind));
    assert.deepEqual(parseTemporaryName(name), { name: "checkpoint-7", kind });
  }
  for (const name of ["checkpoint-7", ".gitignore", ".a.tmp-", "a.tmp-0123456789ab", ".a.tmp-0123456789AB"]) {
    assert.equal(parseTemporaryName(name), undefined);
  }
});
