import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { parseTemporaryName, writeFileAtomic } from "../../lib/io/atomic.ts";
import { cleanLeftovers } from "../../lib/io/checkpoints.ts";
import { commitFolder, manifestName, readManifest, verifyFolder } from "../../lib/io/commit_folder.ts";
import type { FileOperations } from "../../lib/io/file_operations.ts";
import { faultyOperations, Killed, withFolder } from "./faulty_operations.ts";

/** A folder with one nested file, written through `operations`. */
function writer(text: string, operations?: FileOperations): (folder: string) => Promise<void> {
  const options = operations ? { operations } : {};
  return async (folder) => {
    await writeFileAtomic(join(folder, "state.json"), text, options);
    mkdirSync(join(folder, "transformer"));
    await writeFileAtomic(join(folder, "transformer", "weights.bin"), `${text} weights`, options);
  };
}

async function problemsOf(path: string): Promise<string[]> {
  return (await verifyFolder(path)).problems;
}

Deno.test("commitFolder: manifest holds sizes and SHA-256 of all files", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    const files = await commitFolder(path, writer("three"));
    const digest = (text: string) => createHash("sha256").update(text).digest("hex");
    assert.deepEqual(files, [
      { name: "state.json", size: 5, sha256: digest("three") },
      { name: "transformer/weights.bin", size: 13, sha256: digest("three weights") },
    ]);
    assert.deepEqual(readManifest(path), files);
    assert.deepEqual(await verifyFolder(path), { problems: [], extras: [] });
    assert.deepEqual(readdirSync(folder), ["checkpoint-3"]);
  }));

Deno.test("commitFolder: everything inside is on disk before the rename, the rename before success", () =>
  withFolder(async (folder) => {
    const operations = faultyOperations();
    const path = join(folder, "checkpoint-3");
    await commitFolder(path, writer("three", operations), { operations });
    const log = operations.log;
    const rename = log.findIndex((line) => line.startsWith("rename") && line.endsWith(`-> ${path}`));
    const temporary = log[rename]!.split(" ")[1]!;
    const inside = readManifest(path).map(({ name }) => name);
    for (const name of [...inside, "transformer", ""]) {
      const target = join(temporary, name);
      const synced = log.lastIndexOf(`syncPath ${target}`);
      const changed = log.findLastIndex((line) => line.startsWith("rename") && dirname(line.split(" ")[3]!) === target);
      assert.ok(synced > changed && synced < rename && synced >= 0, name);
    }
    assert.equal(log.at(-1), `syncPath ${folder}`);
  }));

for (const replace of [false, true]) {
  for (const kind of ["ENOSPC", "EIO", "KILL"]) {
    const title = `${kind} at every operation${replace ? " while replacing" : ""}`;
    Deno.test(`commitFolder: ${title} leaves whole checkpoints only`, () =>
      withFolder(async (parent) => {
        for (let at = 1;; at++) {
          const folder = join(parent, String(at));
          mkdirSync(folder);
          const earlier = join(folder, "checkpoint-1"), path = join(folder, replace ? "checkpoint-1" : "checkpoint-2");
          await commitFolder(earlier, writer("one"));
          const operations = faultyOperations({ at, kind });
          const failure = await commitFolder(path, writer("two", operations), { operations, replace })
            .then(() => undefined, (error) => error);
          // The clean-up of the replaced folder may fail after the commit; that is no failure of the commit.
          if (failure === undefined && operations.log.length < at) {
            assert.ok(at > 15, `only ${at} operations`);
            break;
          }
          if (kind === "KILL") {
            if (failure !== undefined) assert.ok(failure instanceof Killed);
          } else if (failure !== undefined) {
            assert.ok(failure instanceof UserError, String(failure));
            assert.deepEqual(readdirSync(folder).filter((name) => parseTemporaryName(name)), []);
            assert.equal(readFileSync(join(earlier, "state.json"), "utf8"), "one");
          }
          cleanLeftovers(folder);
          const names = readdirSync(folder);
          assert.ok(names.includes("checkpoint-1"), `operation ${at} lost the earlier checkpoint`);
          for (const name of names) assert.deepEqual(await problemsOf(join(folder, name)), [], `operation ${at}`);
          if (!replace) assert.equal(readFileSync(join(earlier, "state.json"), "utf8"), "one");
        }
      }));
  }
}

Deno.test("commitFolder: refuses an existing folder, replaces it when told", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    await commitFolder(path, writer("first"));
    await assert.rejects(commitFolder(path, writer("second")), /exists already/);
    assert.equal(readFileSync(join(path, "state.json"), "utf8"), "first");
    await commitFolder(path, writer("second"), { replace: true });
    assert.equal(readFileSync(join(path, "state.json"), "utf8"), "second");
    assert.deepEqual(readdirSync(folder), ["checkpoint-3"]);
  }));

Deno.test("commitFolder: too little space is found before anything is written", () =>
  withFolder(async (folder) => {
    const operations = faultyOperations();
    await assert.rejects(
      commitFolder(join(folder, "checkpoint-3"), () => {}, { expectedBytes: 2 ** 60, operations }),
      (error) => error instanceof UserError && error.message.includes(`${Math.ceil(2 ** 60 * 1.1)} bytes are wanted`),
    );
    assert.deepEqual(operations.log, []);
  }));

Deno.test("commitFolder: a full disk names the folder and the bytes wanted", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    for (const expectedBytes of [1000, undefined]) {
      // Operation 12 belongs to the second file, of 13 bytes; the first has 5.
      const operations = faultyOperations({ at: 12, kind: "ENOSPC" });
      await assert.rejects(
        commitFolder(path, writer("three", operations), { operations, ...(expectedBytes && { expectedBytes }) }),
        (error) => {
          const wanted = expectedBytes ?? "at least 18";
          return String(error).includes(`Cannot write "${path}": the disk is full; ${wanted} bytes are wanted, `);
        },
      );
      assert.deepEqual(readdirSync(folder), []);
    }
  }));

Deno.test("verifyFolder: lists every problem at once", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    await commitFolder(path, async (temporary) => {
      for (const name of ["a", "b", "c", "d"]) await writeFileAtomic(join(temporary, name), `text of ${name}`);
    });
    rmSync(join(path, "a"));
    appendFileSync(join(path, "b"), "!");
    const flipped = readFileSync(join(path, "c"));
    flipped[3]! ^= 1;
    writeFileSync(join(path, "c"), flipped);
    writeFileSync(join(path, "extra"), "");
    const { problems, extras } = await verifyFolder(path);
    assert.equal(problems.length, 3);
    assert.match(problems[0]!, /"a" is missing/);
    assert.match(problems[1]!, /"b" has 10 bytes, the manifest says 9/);
    assert.match(problems[2]!, /"c" has SHA-256 [0-9a-f]{64}, the manifest says [0-9a-f]{64}/);
    assert.deepEqual(extras, ["extra"]);
    assert.equal((await verifyFolder(path, { hashes: false })).problems.length, 2);
  }));

Deno.test("verifyFolder: refuses manifests that are missing, cut, foreign or hostile", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    await commitFolder(path, writer("three"));
    const manifest = join(path, manifestName);
    const good = readFileSync(manifest, "utf8");
    const outside = good.replace("state.json", "../../state.json");
    const cases: [string, RegExp][] = [
      [good.slice(0, -9), /expected|without an end/],
      ["", /expected/],
      [good.replace('"version": 1', '"version": 2'), /version 2/],
      [good.replace('"version": 1,', ""), /version undefined/],
      [outside, /not inside the folder/],
      [good.replace("state.json", "/etc/passwd"), /not inside the folder/],
      [good.replace(/"size": 5/, '"size": -5'), /integer/],
      [good.replace(/"sha256": "[0-9a-f]{64}"/, '"sha256": "00"'), /without name, size or sha256/],
    ];
    for (const [text, expected] of cases) {
      writeFileSync(manifest, text);
      const problems = await problemsOf(path);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, expected);
    }
    writeFileSync(manifest, Uint8Array.of(0x22, 0xff, 0x22));
    assert.match((await problemsOf(path))[0]!, /not UTF-8/);
    rmSync(manifest);
    assert.match((await problemsOf(path))[0]!, /does not exist/);
  }));

Deno.test("cleanLeftovers: puts back what was being replaced and removes the rest", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    await commitFolder(path, writer("three"));
    renameSync(path, join(folder, ".checkpoint-3.old-0123456789ab"));
    mkdirSync(join(folder, ".checkpoint-4.tmp-0123456789ab"));
    mkdirSync(join(folder, ".checkpoint-2.trash-0123456789ab"));
    writeFileSync(join(folder, ".hidden"), "mine");
    assert.equal(cleanLeftovers(folder).length, 3);
    assert.deepEqual(readdirSync(folder).sort(), [".hidden", "checkpoint-3"]);
    assert.deepEqual(await problemsOf(path), []);
    assert.equal(existsSync(join(path, manifestName)), true);
  }));
