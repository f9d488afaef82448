/** Disks and limits of the system: read-only, too small, too few files at a time, files cut off at a size. */
import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { cleanLeftovers } from "../../lib/io/checkpoints.ts";
import { mountable, withReadOnly, withSmallDisk } from "../io/disks/small_disk.ts";
import { assertRefused, command, listing, programUnder, trainWords, withCopies } from "./command.ts";

Deno.test({
  name: "an output folder, a dataset and a cache that cannot be written are told before any weight is loaded " +
    "(needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    withCopies((folder) =>
      withSmallDisk(folder, async (disk) => {
        cpSync(join(folder, "clips"), join(disk, "clips"), { recursive: true });
        await withReadOnly(disk, async () => {
          const output = trainWords(folder, `--output_dir=${disk}/run`);
          const says = [/disk\/run": the file system is read-only/, /choose a folder on a writable disk/];
          await assertRefused(folder, { says }, () => command(output));
          const data = trainWords(folder, `--data_root=${disk}/clips`);
          await assertRefused(folder, {
            says: [
              /clips\/cache": the file system is read-only/,
              /^Hint: keep the cache elsewhere: --cache_dir FOLDER/m,
            ],
            mayAppear: /^run(\/\.lock)?$/,
          }, () => command(data));
          // The dataset itself need not be writable.
          const before = listing(join(disk, "clips"));
          const elsewhere = await command([...data, `--cache_dir=${join(folder, "cache")}`, "--train_steps=1"]);
          assert.equal(elsewhere.code, 0, elsewhere.error);
          assert.deepEqual(listing(join(disk, "clips")), before);
        });
      })
    ),
});

Deno.test({
  name: "a run that may open too few files says so, and one whose files are cut off at a size leaves no half of one",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withCopies(async (folder) => {
      const words = trainWords(folder, "--checkpointing_steps=1");
      const few = await programUnder("ulimit -n 32", words);
      assert.equal(few.code, 2, few.error);
      assert.match(few.error, /too many files are open(\nHint:|;) raise the limit with `ulimit -n 4096`/);
      // Blocks of 512 bytes: clips and records fit, a checkpoint does not; the system kills whoever writes more.
      // The driver keeps compiled kernels in a file of its own, which is larger.
      const limit = "ulimit -f 600 && export MESA_SHADER_CACHE_DISABLE=true";
      const cut = await programUnder(limit, [...words, "--training_type=sft"]);
      assert.ok(cut.code > 128 && !existsSync(join(folder, "run", "checkpoint-1")), `${cut.code} ${cut.out}`);
      // Mesa 26 keeps what llvmpipe computes with in such files too, and is killed before the run begins.
      if (!existsSync(join(folder, "run"))) return;
      const [leftover, ...others] = cleanLeftovers(join(folder, "run"));
      assert.match(leftover!, /^\.checkpoint-1\.tmp-/);
      assert.deepEqual(others, []);
    }),
});
