/**
 * Files and folders that this user may not read or write: the message names the file and the user. Where the tests run as root,
 * whom nothing is denied, the process becomes another user; see tests/own_process.ts for why it is one of its own.
 */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { lockFolder } from "../../../lib/io/lock.ts";
import { command, trainWords, withCopies } from "../command.ts";

/** The user that owns nothing. */
const NOBODY = 65534;

const isRoot = Deno.build.os === "linux" && Deno.uid() === 0;
const user = isRoot ? NOBODY : Deno.uid();

const ids = isRoot
  ? Deno.dlopen("libc.so.6", {
    setgroups: { parameters: ["usize", "usize"], result: "i32" },
    setresgid: { parameters: ["u32", "u32", "u32"], result: "i32" },
    setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  }).symbols
  : undefined;

/** Runs `body` as a user to whom something can be denied; the saved ids of root bring the process back. */
async function asUser<T>(body: () => Promise<T>): Promise<T> {
  if (ids === undefined) return await body();
  assert.deepEqual([ids.setgroups(0n, 0n), ids.setresgid(NOBODY, NOBODY, 0), ids.setresuid(NOBODY, NOBODY, 0)], [
    0,
    0,
    0,
  ]);
  try {
    return await body();
  } finally {
    ids.setresuid(0, 0, 0);
    ids.setresgid(0, 0, 0);
  }
}

/** What is closed to the user, and what is then said, besides who the user is. */
const CLOSED: Readonly<Record<string, RegExp>> = {
  "clips/videos/ball.mp4": /videos\/ball\.mp4: cannot be opened \(permission denied/,
  "clips/prompts.txt": /prompts\.txt: cannot be read \(permission denied/,
  "clips/videos": /"videos\/ball\.mp4" cannot be opened \(permission denied|Cannot read ".*clips\/videos": permission/,
  "model": /Cannot read ".*model\/.*": permission denied/,
  "model/transformer/config.json": /Cannot read ".*transformer\/config\.json": permission denied/,
  "model/transformer/diffusion_pytorch_model.safetensors": /Cannot open ".*_model\.safetensors": permission denied/,
  "model/tokenizer/spiece.model": /"[^"]*spiece\.model": permission denied/,
};

Deno.test({
  name: "what a user may not read or write is named with the user, before anything is computed",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withCopies(async (folder) => {
      chmodSync(folder, 0o777);
      mkdirSync(join(folder, "run"));
      const words = trainWords(folder, `--cache_dir=${join(folder, "cache")}`);
      // The program may lie where the other user may not look: all of it that is needed is read before, and programs that it
      // starts begin in the folder of this test.
      assert.equal((await command([...words, "--dry_run"])).code, 0);
      const before = Deno.cwd();
      Deno.chdir(folder);
      using _cwd = { [Symbol.dispose]: () => Deno.chdir(before) };
      for (const [path, says] of Object.entries(CLOSED)) {
        chmodSync(join(folder, path), 0o000);
        const { code, error } = await asUser(() => command(words));
        chmodSync(join(folder, path), 0o755);
        assert.equal(code, 2, `${path}: ${error}`);
        assert.match(error, says);
        assert.match(error, new RegExp(`permission denied to user ${user}\\b`));
        assert.match(error, /give this user access|FOLDER tries every clip|model_path must be/);
        assert.doesNotMatch(error, /\.ts:\d+|os error/);
      }
      // What a run asks for when it has a GPU, which another user may be denied too.
      const run = join(folder, "run");
      chmodSync(run, 0o000);
      const lock = asUser(() => Promise.resolve().then(() => lockFolder(run)));
      await assert.rejects(lock, new RegExp(`Cannot lock ".*run": permission denied to user ${user}\\b`));
      chmodSync(run, 0o755);
    }),
});
