/**
 * Which ffmpeg is run, and what it sees, whatever the environment says; see tests/own_process.ts for why this is a program of its
 * own.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames } from "../../../lib/data/video/video.ts";
import { UserError } from "../../../lib/errors.ts";
import { findProgram, requireOutside } from "../../../lib/io/program.ts";
import { train } from "../../../lib/train/trainer.ts";
import { command } from "../../bad_input/command.ts";
import { fromFileUrl } from "../../paths.ts";
import { until } from "../../patience.ts";
import { configOf, examples, inScratch } from "../../train/runs.ts";
import { fakeTools, makeClip, messageOf, stretch, withFolder, withPath } from "../media.ts";

const usual = Deno.env.get("PATH")!;

Deno.test("a program in the current folder is not run, however PATH leads there", () =>
  withFolder(async (folder) => {
    const clip = join(folder, "clip.mp4");
    await makeClip(clip, "32x16", 8, 3);
    await fakeTools(folder, `touch "${join(folder, "PWNED")}"; exit 1`);
    for (const tool of ["ffmpeg", "ffprobe"]) cpSync(join(folder, "bin", tool), join(folder, tool));
    // What only bears the name: a folder, and a file that nobody may run.
    mkdirSync(join(folder, "decoy", "ffprobe"), { recursive: true });
    mkdirSync(join(folder, "text"));
    writeFileSync(join(folder, "text", "ffprobe"), "");
    const before = Deno.cwd();
    Deno.chdir(folder);
    try {
      const decoys = `${join(folder, "decoy")}:${join(folder, "text")}:${clip}:${join(folder, "none")}`;
      for (const path of [".", "", "bin", "./bin", "../" + folder.split("/").at(-1), "::", decoys]) {
        await withPath(`${path}:${usual}`, async () => assert.equal((await probe(clip)).frames, 3, path));
        await withPath(path, async () => assert.match(await messageOf(probe(clip)), /"ffprobe" is not on the PATH/));
      }
      await withPath(`.:${usual}`, () => {
        assert.match(findProgram("ffmpeg")!, /^\/(usr|opt|bin)/);
        return Promise.resolve();
      });
    } finally {
      Deno.chdir(before);
    }
    assert.ok(!existsSync(join(folder, "PWNED")));
  }));

Deno.test("programs see neither tokens nor what loads code into them", () =>
  withFolder(async (folder) => {
    const clip = join(folder, "clip.mp4"), seen = join(folder, "seen");
    await makeClip(clip, "32x16", 8, 3);
    const bin = await fakeTools(folder, `env > "${seen}"; exit 1`);
    const hostile = ["LD_PRELOAD", "LD_AUDIT", "LD_DEBUG", "FFREPORT", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "BASH_ENV"];
    const kept = { TMPDIR: folder, LD_LIBRARY_PATH: folder };
    for (const name of hostile) Deno.env.set(name, join(folder, "x.so"));
    for (const [name, value] of Object.entries(kept)) Deno.env.set(name, value);
    try {
      await withPath(`${bin}:${usual}`, async () => void await messageOf(probe(clip)));
    } finally {
      for (const name of [...hostile, ...Object.keys(kept)]) Deno.env.delete(name);
    }
    const lines = readFileSync(seen, "utf8").split("\n");
    for (const name of hostile) assert.ok(!lines.some((line) => line.startsWith(`${name}=`)), name);
    for (const [name, value] of Object.entries(kept)) assert.ok(lines.includes(`${name}=${value}`), name);
  }));

Deno.test("a wrapper is ended with what it has started, and not waited for", () =>
  withFolder(async (folder) => {
    const clip = join(folder, "clip.mp4"), started = join(folder, "started");
    await makeClip(clip, "32x16", 8, 3);
    const isAlive = (process: number) => {
      try {
        return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${process}/stat`, "latin1"));
      } catch {
        return false;
      }
    };
    // The shell waits for a program that holds its outputs; the second one leaves it behind.
    for (const [script, says] of [["wait", /aborted/], ["exec yes", /more data than was asked for/]] as const) {
      const bin = await fakeTools(folder, `sleep 300 & echo $! > "${started}"; ${script}`);
      await Deno.writeTextFile(started, "");
      const isStarted = new AbortController();
      await withPath(`${bin}:${usual}`, async () => {
        const options = { geometry: stretch(8, 8), signal: isStarted.signal };
        const decoding = decodeFrames(clip, [0], options).then(() => assert.fail("it was decoded"), String);
        await until(() => readFileSync(started, "utf8") !== "", "the start of the wrapper");
        if (script === "wait") isStarted.abort();
        assert.match(await decoding, says);
      });
      const process = Number(readFileSync(started, "utf8"));
      await until(() => !isAlive(process), "the end of what the wrapper has started");
    }
  }));

Deno.test("with the documented flags, libraries of a cluster's modules keep no clip from being read", async () => {
  const flags = ["--no-prompt", "--quiet", "--allow-read", "--allow-env", "--allow-run=ffmpeg,ffprobe"];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", ...flags, fromFileUrl("../../../mod.ts", import.meta.url)],
      ...["data", "check", "--data_root", join(examples, "clips")],
    ],
    env: { LD_LIBRARY_PATH: examples },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
});

Deno.test("a folder that is written to may not hold the programs that are run", () =>
  inScratch(async (folder) => {
    const config = configOf(folder);
    const linked = join(folder, "linked");
    mkdirSync(config.output_dir);
    mkdirSync(linked);
    const bin = await fakeTools(config.output_dir, `exec "$(PATH=${usual} command -v "$(basename "$0")")" "$@"`);
    const says = /"[^"]+" is written to and holds the program ff\w+ \("[^"]+"\)[^]*Hint: choose another folder/;
    const refuses = (path: string) =>
      withPath(`${path}:${usual}`, async () => {
        assert.throws(() => requireOutside(["ffmpeg"], [config.output_dir]), says);
        await assert.rejects(train(config).next(), (error) => error instanceof UserError && says.test(error.message));
        const words = ["--prompt", "a", "--output_dir", config.output_dir, "--resolution", "9x32x48"];
        const sampled = await command(["sample", "--model_path", join(examples, "tiny-2b"), ...words]);
        assert.equal(sampled.code, 2);
        assert.match(sampled.error, says);
      });
    await refuses(bin);
    // A link from elsewhere to a program inside.
    symlinkSync(join(bin, "ffmpeg"), join(linked, "ffmpeg"));
    await refuses(linked);
    await withPath(usual, () => Promise.resolve(requireOutside(["ffmpeg", "none"], [config.output_dir, "/none"])));
  }));
