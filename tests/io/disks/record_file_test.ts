/** Records are whole or not there, also on a disk that fills up and has room again. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { RecordFile } from "../../../lib/io/record_file.ts";
import { withFolder } from "../faulty_operations.ts";
import { fill, mountable, withSmallDisk } from "./small_disk.ts";

const record = (letter: string, length = 3) => new TextEncoder().encode(`${letter.repeat(length)}\n`);

Deno.test("RecordFile appends to what is there, and makes a new file only where there is none", () =>
  withFolder((folder) => {
    const path = join(folder, "log");
    appendFileSync(path, "before\n");
    {
      using file = new RecordFile(path);
      file.append(record("a"));
      file.append(record("b"));
      file.sync();
    }
    assert.equal(readFileSync(path, "utf8"), "before\naaa\nbbb\n");
    assert.throws(() => new RecordFile(path, { isNew: true }), UserError);
    assert.throws(() => new RecordFile(join(folder, "none", "log")), UserError);
  }));

Deno.test({
  name: "RecordFile cuts off what a full disk took of a record, and goes on (needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    withFolder((folder) =>
      withSmallDisk(folder, (disk) => {
        const path = join(disk, "log");
        using file = new RecordFile(path);
        file.append(record("a"));
        const free = fill(disk);
        // The page of memory that holds the first record has room for 4092 bytes more.
        const large = record("b", 6000);
        assert.throws(() => file.append(large), /log": the disk is full; at least 6001 bytes are wanted, 0 bytes/);
        assert.ok(statSync(path).size > 4, "a part was written");
        file.append(record("c"));
        assert.equal(readFileSync(path, "utf8"), "aaa\nccc\n");
        assert.throws(() => file.append(large), UserError);
        file.sync();
        assert.equal(readFileSync(path, "utf8"), "aaa\nccc\n");
        free();
        file.append(large);
        assert.equal(statSync(path).size, 8 + 6001);
      })
    ),
});
