/** What the failures of a file system are called, each met where a file is written, and what is left after them. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { latestValid } from "../../lib/io/checkpoints.ts";
import { commitFolder, readManifest } from "../../lib/io/commit_folder.ts";
import { type FileOperations, fileOperations } from "../../lib/io/file_operations.ts";
import { faultyOperations, withFolder } from "./faulty_operations.ts";

/** Code of the failure, what the message says of it, what the hint advises. */
const FAILURES: readonly (readonly [code: string, what: RegExp, advice: RegExp])[] = [
  ["EACCES", /permission denied/, /give this user access/],
  ["EPERM", /permission denied/, /give this user access/],
  ["EROFS", /read-only/, /a writable disk/],
  ["ENOENT", /does not exist/, /check the path/],
  ["EEXIST", /a file stands where a folder is expected/, /check the path/],
  ["EISDIR", /a file stands where a folder is expected/, /check the path/],
  ["ENOTDIR", /a file stands where a folder is expected/, /check the path/],
  ["ELOOP", /lead in a circle/, /what they should lead to/],
  ["ENAMETOOLONG", /255 bytes/, /a shorter one/],
  ["EMFILE", /too many files are open/, /ulimit -n/],
  ["ENFILE", /too many files are open/, /ulimit -n/],
  ["EIO", /input\/output error/, /check the disk/],
  ["ENOSPC", /the disk is full; 4 bytes are wanted, \d+ bytes are free/, /files written earlier are as they were/],
  ["EDQUOT", /quota is used up; 4 bytes are wanted, \d+ bytes are free/, /files written earlier are as they were/],
];

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  assert.fail("it did not fail");
}

Deno.test("every failure of a disk names the file, the cause and the way out", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a");
    writeFileSync(path, "earlier");
    for (const [code, what, advice] of FAILURES) {
      const operations = faultyOperations({ at: 1, kind: code });
      const error = await failureOf(writeFileAtomic(path, "text", { operations }));
      assert.ok(error instanceof UserError, code);
      assert.ok(error.summary.startsWith(`Cannot write "${path}": `), code);
      assert.match(error.summary, what);
      assert.match(error.hint!, advice);
      assert.equal(readFileSync(path, "utf8"), "earlier");
    }
    // Which a user cannot mend: it stays what it is, with its trace.
    const error = await failureOf(
      writeFileAtomic(path, "text", { operations: faultyOperations({ at: 1, kind: "EX" }) }),
    );
    assert.ok(error instanceof Error && !(error instanceof UserError));
    assert.deepEqual(readdirSync(folder), ["a"]);
  }));

Deno.test("a quota that is used up inside a folder is named for the folder", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-1");
    const operations = faultyOperations({ at: 3, kind: "EDQUOT" });
    const write = (inside: string) => writeFileAtomic(join(inside, "state"), "text", { operations });
    const error = await failureOf(commitFolder(path, write, { operations }));
    assert.ok(error instanceof UserError);
    assert.ok(error.summary.startsWith(`Cannot write "${path}": the disk quota is used up; at least `), error.summary);
    assert.deepEqual(readdirSync(folder), []);
  }));

Deno.test("the kernel's own refusals of a name", () =>
  withFolder(async (folder) => {
    // With the ending of a temporary name even 250 bytes are too long.
    assert.match(String(await failureOf(writeFileAtomic(join(folder, "n".repeat(250)), ""))), /allow 255 bytes/);
    symlinkSync(join(folder, "one"), join(folder, "two"));
    symlinkSync(join(folder, "two"), join(folder, "one"));
    assert.match(String(await failureOf(writeFileAtomic(join(folder, "one", "a"), ""))), /lead in a circle/);
    writeFileSync(join(folder, "file"), "");
    assert.match(String(await failureOf(writeFileAtomic(join(folder, "file", "a"), ""))), /a file stands where/);
  }));

Deno.test("a file system that takes no bytes, and one that fails in the clean-up too, are told by their first failure", () =>
  withFolder(async (folder) => {
    const refuse = () => {
      throw Object.assign(new Error("injected"), { code: "EACCES" });
    };
    const idle: FileOperations = { ...fileOperations, write: () => 0 };
    const worse: FileOperations = {
      ...idle,
      close(descriptor) {
        fileOperations.close(descriptor);
        refuse();
      },
      remove: refuse,
    };
    for (const operations of [idle, worse]) {
      assert.match(String(await failureOf(writeFileAtomic(join(folder, "a"), "x", { operations }))), /input\/output/);
    }
  }));

Deno.test("a file in the place of a folder of a checkpoint is damage, and the checkpoint before it is whole", () =>
  withFolder(async (folder) => {
    for (const step of [1, 2]) {
      await commitFolder(join(folder, `checkpoint-${step}`), (inside) => {
        mkdirSync(join(inside, "transformer"));
        writeFileSync(join(inside, "transformer", "weights"), "text");
      });
    }
    rmSync(join(folder, "checkpoint-2", "transformer"), { recursive: true });
    writeFileSync(join(folder, "checkpoint-2", "transformer"), "text");
    const { checkpoint, damaged } = await latestValid(folder);
    assert.equal(checkpoint?.step, 1);
    assert.deepEqual(damaged[0]?.problems, ['"transformer/weights" is missing']);
  }));

Deno.test("a manifest that lists nothing it could be held to, or what no program writes, is refused", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-1");
    const sha256 = "0".repeat(64);
    await commitFolder(path, () => {});
    for (
      const [manifest, expected] of [
        ['{"version": 1}', /lists no files/],
        ['{"version": 1, "files": [], "note": ""}', /unknown field "note"/],
        [`{"version": 1, "files": [{"name": "a", "sha256": "${sha256}"}]}`, /without name, size or sha256/],
        [`{"version": 1, "files": [{"size": 1, "sha256": "${sha256}"}]}`, /without name, size or sha256/],
        ['{"version": 1, "files": [{"name": "a", "size": 1}]}', /without name, size or sha256/],
        [`{"version": 1, "files": [{"name": "a", "size": 1, "mode": 7}]}`, /unknown field "mode"/],
      ] as const
    ) {
      writeFileSync(join(path, "manifest.json"), manifest);
      assert.throws(() => readManifest(path), (error) => error instanceof UserError && expected.test(error.message));
    }
    await assert.rejects(
      commitFolder(join(folder, "b"), (inside) => writeFileSync(join(inside, "manifest.json"), "")),
      /written by commitFolder/,
    );
    assert.deepEqual(readdirSync(folder), ["checkpoint-1"]);
  }));
