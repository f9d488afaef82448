/** Machines that lack something: disk space, a GPU, ffmpeg, or an output folder of their own. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { verifyFolder } from "../../lib/io/commit_folder.ts";
import { freeBytes } from "../../lib/io/file_operations.ts";
import { lockFolder } from "../../lib/io/lock.ts";
import { mountable, withSmallDisk } from "../io/disks/small_disk.ts";
import {
  assertRefused,
  assertUntouched,
  command,
  listing,
  type Outcome,
  program,
  trainWords,
  withCopies,
} from "./command.ts";

function assertDiskFull({ code, error }: Outcome): void {
  assert.equal(code, 2, error);
  assert.match(error, /checkpoint-\d+": .*\d+ bytes are wanted, \d+ bytes are free there/);
  assert.match(error, /^Hint: free space or choose another folder/m);
  assert.doesNotMatch(error, /\.ts:\d+/);
}

Deno.test({
  name: "a disk that fills up while checkpoints are saved leaves the earlier ones whole (needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    withCopies((folder) =>
      withSmallDisk(folder, async (disk) => {
        // Room for a few checkpoints.
        writeFileSync(join(disk, "filler"), new Uint8Array(600_000));
        const often = ["--train_steps=40", "--checkpointing_steps=1", "--checkpointing_limit=40"];
        const words = trainWords(folder, `--output_dir=${disk}`, ...often);
        assertDiskFull(await command(words));
        const names = [...Deno.readDirSync(disk)].map(({ name }) => name).filter((name) =>
          name !== ".lock" && name !== "filler"
        );
        const checkpoints = names.filter((name) => /^checkpoint-\d+$/.test(name));
        assert.ok(checkpoints.length > 1, "some were saved before the disk was full");
        assert.deepEqual(
          names.filter((name) => !checkpoints.includes(name)).sort(),
          ["index.html", "metrics.jsonl"],
          "nothing half-written",
        );
        for (const name of checkpoints) {
          assert.deepEqual(await verifyFolder(join(disk, name)), { problems: [], extras: [] }, name);
        }
        const last = Math.max(...checkpoints.map((name) => Number(name.slice("checkpoint-".length))));
        rmSync(join(disk, "checkpoint-1"), { recursive: true });
        const resumed = await command([...words, "--resume_from_checkpoint=latest", `--train_steps=${last}`]);
        assert.equal(resumed.code, 0, resumed.error);
        assert.match(resumed.out, new RegExp(`Finished after step ${last}`));
      })
    ),
});

Deno.test({
  name: "a disk that is full at the last step loses no earlier checkpoint (needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    withCopies((folder) =>
      withSmallDisk(folder, async (disk) => {
        const words = trainWords(folder, `--output_dir=${disk}`);
        assert.equal((await command(words)).code, 0);
        // Leaves room for the record of the steps, but not for a checkpoint.
        const fill = () => writeFileSync(join(disk, "filler"), new Uint8Array(freeBytes(disk) - 65_536));
        const before = listing(join(disk, "checkpoint-2"));
        const more = [...words, "--train_steps=3", "--resume_from_checkpoint=latest"];
        // It fills up while the run is on, as the run would not begin without room for a checkpoint.
        assertDiskFull(await command(more, { onOutput: (text) => /step 3/.test(text) && fill() }));
        assertUntouched(join(disk, "checkpoint-2"), before);
        assert.ok(!listing(disk).has("checkpoint-3"));
      })
    ),
});

Deno.test({
  name: "train and data check ask for room for clips and a checkpoint before they begin (needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    withCopies((folder) =>
      withSmallDisk(folder, async (disk) => {
        writeFileSync(join(disk, "filler"), new Uint8Array(freeBytes(disk) - 16_384));
        const words = trainWords(folder, `--output_dir=${join(disk, "run")}`, `--cache_dir=${join(disk, "cache")}`);
        const bytes =
          /Not enough disk space: (\d+) bytes are wanted \((\d+) for encoded clips in ".*cache", (\d+) for a checkpoint in ".*run"\), \d+ bytes are free there/;
        const { error } = await assertRefused(folder, { says: [bytes] }, () => command(words));
        const [, wanted, clips, checkpoint] = bytes.exec(error)!;
        assert.equal(Number(wanted), Number(clips) + Number(checkpoint));
        // Four clips of 9 frames of 32x48: 3 latent frames of 4x6 with mean and variance of 16 channels, and four prompts
        // of 226 tokens of 32 numbers.
        assert.equal(Number(clips), 4 * 4 * (3 * 4 * 6 * 2 * 16 + 226 * 32));
        const check = await command(["data", "check", ...words.slice(1)]);
        assert.equal(check.code, 2);
        assert.match(check.out, /^problem: Not enough disk space: /m);
        rmSync(join(disk, "filler"));
        const many = ["--train_steps=400", "--checkpointing_steps=1", "--dry_run"];
        assert.match(
          (await command([...words, ...many])).error,
          /^note: 11 checkpoints are kept at once and take \d+ bytes/m,
        );
      })
    ),
});

Deno.test("train refuses an output folder in use by another run", () =>
  withCopies(async (folder) => {
    using _lock = lockFolder(join(folder, "run"));
    const says = [new RegExp(`run" is in use by process ${Deno.pid} on `), /choose another output folder/];
    await assertRefused(folder, { says }, () => command(trainWords(folder)));
  }));

Deno.test("train refuses an output folder that is a file", () =>
  withCopies(async (folder) => {
    writeFileSync(join(folder, "run"), "mine");
    const says = [/"\/.*run": a file stands where a folder is expected/];
    await assertRefused(folder, { says }, () => command(trainWords(folder)));
  }));

Deno.test("train without a GPU driver names the package that brings one", () =>
  withCopies(async (folder) => {
    // Deno would fall back to OpenGL, which Mesa computes without a Vulkan driver too.
    const env = { VK_DRIVER_FILES: "/dev/null", VK_ICD_FILENAMES: "/dev/null", DENO_WEBGPU_BACKEND: "vulkan" };
    const says = [/No GPU adapter was found/, /apt-get install -y mesa-vulkan-drivers libvulkan1/];
    await assertRefused(folder, { says }, () => program(trainWords(folder), env));
    const doctor = await program(["doctor"], env);
    assert.equal(doctor.code, 1);
    assert.match(doctor.out, /^problem +GPU +engine deno: finds no adapter\n +Install the driver of your GPU/m);
  }));

Deno.test("train without ffmpeg gives the command that installs it", () =>
  withCopies(async (folder) => {
    // No package manager either: with one, and the right to use it, ffmpeg would be installed.
    const env = { PATH: join(folder, "no-programs") };
    const says = [/ffmpeg is missing/, /Run: (sudo )?(apt-get|dnf|pacman|brew)/];
    await assertRefused(folder, { says }, () => program(trainWords(folder), env));
    const doctor = await program(["doctor"], env);
    assert.equal(doctor.code, 1);
    assert.match(doctor.out, /^problem +ffmpeg +not on the PATH\n +Run: /m);
  }));
