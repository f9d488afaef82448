/**
 * Text from outside that wants to be something else: a path out of its folder, an option or a filter of ffmpeg, an address, a line
 * of a shell. Lists, names of clips, prompts, settings, names of models and repositories, and what is printed to be pasted.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { quoted } from "../../lib/cli/show/program_call.ts";
import { parseConfig } from "../../lib/config/config.ts";
import { readDataset } from "../../lib/data/dataset/dataset.ts";
import { probe } from "../../lib/data/video/probe.ts";
import { decodeFrames } from "../../lib/data/video/video.ts";
import { UserError, UserErrors } from "../../lib/errors.ts";
import { parseHubId } from "../../lib/models/folder/hub.ts";
import { sampleName, validationName } from "../../lib/sample/files.ts";
import { command } from "../bad_input/command.ts";
import { makeClip, stretch, withFolder } from "../data/media.ts";

/** Injections that were tried. */
let tried = 0;

/** Entries of videos.txt that lead to `secret.mp4` beside the dataset, or to what is no file. */
const ENTRIES = [
  "../secret.mp4",
  "./../secret.mp4",
  "videos/../../secret.mp4",
  "videos/./.././../secret.mp4",
  "//secret.mp4",
  "link.mp4",
  "up/secret.mp4",
  "~/secret.mp4",
  "~root/secret.mp4",
  "$HOME/secret.mp4",
  "${PWD}/../secret.mp4",
  "$(echo ../secret.mp4)",
  "`echo ../secret.mp4`",
  "..\\secret.mp4",
  "%2e%2e/secret.mp4",
  "C:\\secret.mp4",
  "\\\\host\\share\\secret.mp4",
  "file:../secret.mp4",
  "file:///etc/passwd",
  "concat:../secret.mp4|../secret.mp4",
  "subfile,,start,0,end,9,,:../secret.mp4",
  "pipe:0",
  "data:video/mp4;base64,AAAA",
  "http://127.0.0.1:9/secret.mp4",
  "/dev/zero",
  "/proc/self/environ",
  "/etc/passwd",
  "-i ../secret.mp4",
  "a.mp4 -i ../secret.mp4",
  "a.mp4;../secret.mp4",
  "*.mp4",
  "..",
  ".",
  "videos",
];

Deno.test("entries of a list lead to files of the dataset alone, and each that does not is named", () =>
  withFolder(async (parent) => {
    const root = join(parent, "clips");
    mkdirSync(join(root, "videos"), { recursive: true });
    await makeClip(join(parent, "secret.mp4"), "32x16", 8, 3);
    cpSync(join(parent, "secret.mp4"), join(root, "a.mp4"));
    Deno.symlinkSync(join(parent, "secret.mp4"), join(root, "link.mp4"));
    Deno.symlinkSync(parent, join(root, "up"));
    const entries = [...ENTRIES, join(parent, "secret.mp4")];
    writeFileSync(join(root, "videos.txt"), entries.join("\n"));
    writeFileSync(join(root, "prompts.txt"), entries.map(() => "p").join("\n"));
    const error = await readDataset(root).then(() => undefined, (error) => error);
    assert.ok(error instanceof UserErrors, `${error}`);
    const unnamed = entries.filter((_, i) =>
      !error.problems.some((text) => new RegExp(`videos\\.txt.*\\b${i + 1}\\b: `).test(text))
    );
    assert.deepEqual(unnamed, []);
    tried += entries.length;
  }));

/** Names of clips that ffmpeg, a shell or a pattern would understand differently. */
const NAMES = [
  "-y.mp4",
  "-i.mp4",
  "-vf movie=secret.mp4.mp4",
  "; touch PWNED;.mp4",
  "$(touch PWNED).mp4",
  "`touch PWNED`.mp4",
  "& touch PWNED &.mp4",
  "| touch PWNED.mp4",
  "> PWNED.mp4",
  "'; touch PWNED; '.mp4",
  '"; touch PWNED; ".mp4',
  "a:b.mp4",
  "http:x.mp4",
  "concat:x|y.mp4",
  "pipe:0.mp4",
  "crypto:x.mp4",
  "data:,x.mp4",
  "subfile,,start,0,end,9,,:x.mp4",
  "%03d.mp4",
  "%s%n.mp4",
  "[a][b]scale=1:1.mp4",
  "a\nb.mp4",
  "\u001b[31m.mp4",
  "*?.mp4",
  " .mp4",
  "\u202egpj.mp4",
];

Deno.test("a clip of any name is that clip, and nothing else is run, opened or made", () =>
  withFolder(async (folder) => {
    const plain = join(folder, "plain.mp4");
    await makeClip(plain, "32x16", 8, 3);
    const pixels = async (path: string) => (await decodeFrames(path, [0, 2], { geometry: stretch(32, 16) })).data;
    const expected = await pixels(plain);
    for (const name of NAMES) {
      const path = join(folder, name);
      cpSync(plain, path);
      assert.equal((await probe(path)).frames, 3, name);
      assert.deepEqual(await pixels(path), expected, name);
    }
    assert.deepEqual(readdirSync(folder).sort(), ["plain.mp4", ...NAMES].sort());
    tried += NAMES.length;
  }));

const PROMPTS = [
  "../../etc/passwd",
  "/etc/passwd",
  "..",
  ".",
  "",
  "-rf",
  "--help",
  "a\0b",
  "a\nb\r\tc",
  "\u001b]0;x\u0007",
  "con",
  "a/../../b",
  "a\\..\\..\\b",
  "${HOME}",
  "%2e%2e%2f",
  "\u202egpj.exe",
  "\ud800",
  "𓀀".repeat(300),
  "é".repeat(300),
  "ﷺ".repeat(300),
];

Deno.test("a prompt becomes the name of one file in its folder", () => {
  for (const prompt of PROMPTS) {
    for (const name of [sampleName(0, prompt, 1), validationName(1, 0, prompt)]) {
      const file = `${name}.mp4`;
      assert.equal(dirname(join("/runs/x", file)), "/runs/x", file);
      assert.ok(new TextEncoder().encode(file).length <= 255, file);
      assert.doesNotMatch(file, /^[-.]|[/\\\p{Cc}]/u);
    }
  }
  tried += PROMPTS.length;
});

/** Settings that become numbers of a filter, names of files or words of a command elsewhere. */
const SETTINGS: readonly Readonly<Record<string, unknown>>[] = [
  { train_resolution: "49x480x720,movie=/etc/passwd" },
  { train_resolution: "49x480x720;touch PWNED" },
  { train_resolution: ["49", "480", "720:eval=frame"] },
  { train_resolution: "49x48e1x720" },
  { train_resolution: "0x1ex30x2d0" },
  { fps: "8,drawtext=textfile=/etc/passwd" },
  { seed: "1; touch PWNED" },
  { rank: "$(touch PWNED)" },
  { resize_mode: "crop,movie=x" },
  { dataset_format: "../../format" },
  { preset: "../../etc/passwd" },
  { preset: "file:///etc/passwd" },
  { preset: "__proto__" },
  { optimizer: "constructor" },
  { lr_scheduler: "__proto__" },
  { model: "toString" },
  { mixed_precision: "bf16\n" },
  { output_dir: "runs\0/x" },
  { data_root: "clips\0" },
  { push_to_hub: "../x" },
  { push_to_hub: "me/../../x" },
  JSON.parse('{"__proto__": 1}'),
];

Deno.test("settings are numbers, choices and names as they must be, or refused", () => {
  for (const overrides of SETTINGS) {
    assert.throws(() => parseConfig("", { overrides }), UserError, JSON.stringify(overrides));
  }
  tried += SETTINGS.length;
});

const MODELS = [
  "../..",
  "..",
  "a/..",
  "../a",
  "a/../b",
  "/etc/passwd",
  "a/b/c",
  "a\\b",
  "a/b@../x",
  "a/b@/x",
  "a/b@",
  "-a/b",
  "a/b?x",
  "a/b#x",
  "a/b\n",
  "a/%2e%2e",
  "./a/b",
];

Deno.test("names of models and repositories stay names", async () => {
  for (const name of MODELS) {
    const id = parseHubId(name);
    assert.equal(id, undefined, name);
    const { code, error } = await command(["push", "run", "--repo", name]);
    assert.equal(code, 2, `${name}: ${error}`);
  }
  // A branch may have slashes, and is one name in the cache and in addresses.
  assert.deepEqual(parseHubId("a/b@main/../../x"), { owner: "a", name: "b", revision: "main/../../x" });
  tried += MODELS.length;
});

Deno.test("a printed command, pasted into a shell, has the words it was made of", async () => {
  const words = [...NAMES, "a b", "", "!!", "#x", "~", "a=b", "{a,b}", "\\", "'", '"'];
  const script = `printf '%s\\0' ${words.map(quoted).join(" ")}`;
  const { stdout } = await new Deno.Command("bash", { args: ["-c", script] }).output();
  assert.deepEqual(new TextDecoder().decode(stdout).split("\0").slice(0, -1), words);
  tried += words.length;
});

Deno.test("at least 120 injections were tried, and none succeeded", () => {
  assert.ok(tried >= 120, `${tried}`);
  // deno-lint-ignore no-console
  console.log(`0 of ${tried} injections have succeeded`);
});
