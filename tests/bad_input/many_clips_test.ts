/** Seventy clips of which some are broken: all of them are told within seconds, before any weights are read. */
import assert from "node:assert/strict";
import { cpSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";
import { trainWords, withCopies } from "./command.ts";

const CLIPS = 70;

/** Most processor time of a check and of the processes that it started, seconds: six times what two slow cores take. */
const LIMIT = 60;

const program = fromFileUrl("../../mod.ts", import.meta.url);

/** Runs a command line, and has the shell tell the processor time of all that it started. */
async function timed(words: readonly string[]): Promise<{ code: number; text: string; seconds: number }> {
  const { code, stdout } = await new Deno.Command("bash", {
    args: [
      "-c",
      '"$@" 2>&1; code=$?; times; exit $code',
      "-",
      Deno.execPath(),
      "run",
      "-A",
      "--quiet",
      program,
      ...words,
    ],
    env: { NO_COLOR: "1", LC_ALL: "C" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  const seconds = [...text.trim().split("\n").at(-1)!.matchAll(/(\d+)m([\d.]+)s/g)]
    .reduce((sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds), 0);
  return { code, text, seconds };
}

Deno.test("what is wrong with seventy clips is told in ten seconds, before weights are read", () =>
  withCopies(async (folder) => {
    const videos = join(folder, "clips/videos");
    const [clip] = readdirSync(videos).sort();
    const names = Array.from({ length: CLIPS }, (_, i) => `clip-${i}.mp4`);
    for (const name of names) cpSync(join(videos, clip!), join(videos, name));
    writeFileSync(join(videos, names[7]!), "a text");
    writeFileSync(join(videos, names[33]!), "");
    Deno.removeSync(join(videos, names[69]!));
    writeFileSync(join(folder, "clips/videos.txt"), names.map((name) => `videos/${name}\n`).join(""));
    writeFileSync(join(folder, "clips/prompts.txt"), names.map((name) => `${name}\n`).join(""));
    // Who reads these weights says that they are not finite.
    for (const part of ["transformer", "vae"]) {
      const path = join(folder, "model", part, "diffusion_pytorch_model.safetensors");
      const bytes = Deno.readFileSync(path);
      Deno.writeFileSync(path, bytes.map((byte, i) => i > bytes.length / 2 ? 0xff : byte));
    }
    const figures: number[] = [];
    const refused = async (words: readonly string[], ...says: RegExp[]) => {
      const { code, text, seconds } = await timed(words);
      assert.equal(code, 2, text);
      for (const expected of says) assert.match(text, expected);
      assert.ok(seconds < LIMIT, `${seconds} s`);
      figures.push(seconds);
    };
    await refused(
      ["data", "check", "--data_root", join(folder, "clips")],
      ...[/clip-7\.mp4.*a text/, /clip-33\.mp4.*is empty/, /clip-69\.mp4.*does not exist/],
    );
    await refused(trainWords(folder), /clip-33\.mp4.*is empty/, /clip-69\.mp4.*does not exist/);
    for (const name of [names[33]!, names[69]!]) cpSync(join(videos, clip!), join(videos, name));
    await refused(trainWords(folder), /clip-7\.mp4.*a text/);
    // deno-lint-ignore no-console
    console.log(`checks of ${CLIPS} clips: ${figures.join(", ")} s of processor time`);
  }));
