/** A failed fsync may have dropped the data, and a second one would lie: nothing is forced to disk again that failed once. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { writeFileAtomic } from "../../../lib/io/atomic.ts";
import { commitFolder } from "../../../lib/io/commit_folder.ts";
import type { FileOperations } from "../../../lib/io/file_operations.ts";
import { faultyOperations, withFolder } from "../faulty_operations.ts";

/** One checkpoint of two files. */
function save(folder: string, operations: FileOperations): Promise<unknown> {
  return commitFolder(join(folder, "checkpoint-1"), async (temporary) => {
    await writeFileAtomic(join(temporary, "weights.bin"), new Uint8Array(1000), { operations });
    await writeFileAtomic(join(temporary, "trainer.json"), "{}", { operations });
  }, { operations });
}

Deno.test("what could not be forced to disk is thrown away, and the next attempt writes all of it anew", () =>
  withFolder(async (parent) => {
    const whole = faultyOperations();
    await save(parent, whole);
    const syncs = whole.log.flatMap((line, i) => /^sync(Path)? /.test(line) ? [i + 1] : []);
    assert.ok(syncs.length > 8, `${syncs.length} operations force something to disk`);
    for (const at of syncs) {
      const folder = join(parent, `${at}`);
      mkdirSync(folder);
      const operations = faultyOperations({ at, kind: "EIO" });
      await assert.rejects(
        save(folder, operations),
        (error) => error instanceof UserError && /input\/output/.test(error.message),
      );
      const [, ...after] = operations.log.slice(at - 1);
      assert.ok(after.every((line) => /^(remove|rename) /.test(line)), `${at}: ${after}`);
      assert.deepEqual(readdirSync(folder), [], `${at}`);
      // The same operations as a first attempt, every write and every fsync among them.
      const again = faultyOperations();
      await save(folder, again);
      assert.equal(again.log.length, whole.log.length, `${at}`);
    }
  }));
