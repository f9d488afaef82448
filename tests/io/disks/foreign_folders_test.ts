/** What others put where this program writes: it is kept, and it is named. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { writeFileAtomic } from "../../../lib/io/atomic.ts";
import { commitFolder } from "../../../lib/io/commit_folder.ts";
import { lockFolder } from "../../../lib/io/lock.ts";
import { withFolder } from "../faulty_operations.ts";

/** What may stand in the place of a folder that is to be replaced. */
const others: Readonly<Record<string, (path: string) => void>> = {
  "a file": (path) => writeFileSync(path, "mine"),
  "an empty folder": (path) => mkdirSync(path),
  "a folder of files": (path) => {
    mkdirSync(path);
    writeFileSync(join(path, "notes.txt"), "mine");
  },
  "a link to a folder": (path) => {
    mkdirSync(`${path} elsewhere`);
    symlinkSync(`${path} elsewhere`, path);
  },
};

for (const [name, make] of Object.entries(others)) {
  Deno.test(`commitFolder: never replaces ${name} that it did not write`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "best");
      make(path);
      const before = readdirSync(folder, { recursive: true }).sort();
      const write = (temporary: string) => writeFileAtomic(join(temporary, "a.txt"), "ours");
      await assert.rejects(
        commitFolder(path, write, { replace: true }),
        (error) => error instanceof UserError && /best" exists and holds no manifest\.json/.test(error.message),
      );
      assert.deepEqual(readdirSync(folder, { recursive: true }).sort(), before);
      if (name === "a file") assert.equal(readFileSync(path, "utf8"), "mine");
    }));
}

Deno.test("lockFolder: a folder that another process took although it was locked is noticed when it is renewed", () =>
  withFolder((folder) => {
    using lock = lockFolder(folder);
    assert.equal(lock.renew(), false);
    // As on a network file system whose locks hold nobody off.
    writeFileSync(join(folder, ".lock"), "process 7 on elsewhere, started today\n");
    assert.throws(() => lock.renew(), /is in use by process 7 on elsewhere, started today/);
  }));
