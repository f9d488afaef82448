/** Names that file systems treat differently: of one file under two names, and of bytes that are no text. */
import assert from "node:assert/strict";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { sampleName, validationName } from "../../../lib/sample/files.ts";
import { withFolder } from "../media.ts";

/** Runs a line of a shell in a folder: no text of this program can name what is not UTF-8. */
async function shell(folder: string, script: string): Promise<void> {
  assert.ok((await new Deno.Command("sh", { args: ["-c", script], cwd: folder }).output()).success);
}

Deno.test("a clip that a disk knows by two names, as where a and A are one letter, is told to be listed twice", () =>
  withFolder(async (folder) => {
    writeFileSync(join(folder, "a.mp4"), "a clip");
    writeFileSync(join(folder, "other.mp4"), "a clip");
    // Such a disk answers to both names with one file, which a link does too.
    linkSync(join(folder, "a.mp4"), join(folder, "linked.mp4"));
    symlinkSync(join(folder, "other.mp4"), join(folder, "pointed.mp4"));
    writeFileSync(join(folder, "videos.txt"), "a.mp4\nother.mp4\nlinked.mp4\npointed.mp4\n");
    writeFileSync(join(folder, "prompts.txt"), "one\ntwo\nthree\ntwo\n");
    assert.deepEqual((await readDataset(folder)).warnings, [
      "linked.mp4: sample 3 repeats the clip of sample 1 with another prompt",
      "pointed.mp4: sample 4 repeats the clip of sample 2 with the same prompt",
    ]);
  }));

Deno.test("videos of prompts that differ in the case of letters alone have names that differ in more", () => {
  const prompts = ["A cat runs", "a cat runs", "A CAT RUNS"];
  for (
    const names of [
      prompts.map((prompt) => validationName(0, 0, prompt)),
      prompts.map((prompt, i) => sampleName(i, prompt, 1)),
    ]
  ) assert.equal(new Set(names.map((name) => name.toLowerCase())).size, prompts.length);
});

Deno.test({
  name: "files and folders whose names are not UTF-8 are refused by name and with what to do",
  // Other systems refuse to make such files.
  ignore: Deno.build.os !== "linux",
  fn: () =>
    withFolder(async (folder) => {
      // A byte of Latin-1.
      await shell(
        folder,
        `byte="$(printf '\\351')"; mkdir -p clips "folders/$byte"; touch "folders/$byte/a.mp4" "clips/caf$byte.mp4"`,
      );
      const options = { prompt: "p" };
      const clip = /caf\ufffd\.mp4: "caf\ufffd\.mp4" has a name that is not UTF-8; rename the file/;
      await assert.rejects(readDataset(join(folder, "clips"), options), clip);
      const below = /Cannot read ".*folders\/\ufffd": its name is not UTF-8\nHint: rename it/;
      await assert.rejects(readDataset(join(folder, "folders"), options), below);
      // Names that are text, whatever letters they have, are kept as they are: composed and decomposed are two files.
      mkdirSync(join(folder, "text"));
      for (const name of ["caf\u00e9.mp4", "cafe\u0301.mp4"]) writeFileSync(join(folder, "text", name), "clip");
      const { items } = await readDataset(join(folder, "text"), options);
      assert.deepEqual(items.map(({ name }) => name).sort(), ["cafe\u0301.mp4", "caf\u00e9.mp4"]);
    }),
});
