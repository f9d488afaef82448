/** Captions that say nothing, and bytes that are no text. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { UserErrors } from "../../../lib/errors.ts";
import { withFolder } from "../media.ts";

function put(folder: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
}

Deno.test("clips with an empty caption are counted in one line, and train on the empty prompt", () =>
  withFolder(async (folder) => {
    put(folder, { "a.mp4": "a", "a.txt": "\n", "b.mp4": "b", "b.txt": "a dog" });
    const one = await readDataset(folder);
    assert.deepEqual(one.warnings, ["a.mp4: has an empty prompt"]);
    assert.deepEqual(one.items.map(({ prompt }) => prompt), ["", "a dog"]);
    put(folder, { "b.txt": "", "c.mp4": "c", "c.txt": " \r\n" });
    assert.deepEqual((await readDataset(folder)).warnings, ["3 clips have an empty prompt, as a.mp4"]);
    assert.deepEqual(
      (await readDataset(folder, { idToken: "ohwx " })).items.map(({ prompt }) => prompt),
      Array(3).fill("ohwx "),
    );
  }));

Deno.test("lists and captions in UTF-16, with halves of characters or with NUL are refused by file and line", () =>
  withFolder(async (folder) => {
    const utf16 = new Uint8Array([
      0xff,
      0xfe,
      ...new Uint8Array(Uint16Array.from("one\ntwo\n", (c) => c.charCodeAt(0)).buffer),
    ]);
    // U+D800 in the form that UTF-8 gives it, which no text may have.
    const half = new Uint8Array([...new TextEncoder().encode("one\ntwo "), 0xed, 0xa0, 0x80, 0x0a]);
    const cases: readonly (readonly [string | Uint8Array, RegExp])[] = [
      [utf16, /^prompts\.txt: is UTF-16 text, expected UTF-8: save the file as UTF-8$/],
      [half, /^prompts\.txt: line 2 is not UTF-8 \(byte 0xed at byte 5 of the line\)/],
      ["one\nt\0wo\n", /^prompts\.txt line 2: contains a NUL character; remove it$/],
    ];
    put(folder, { "a.mp4": "a", "b.mp4": "b", "videos.txt": "a.mp4\nb.mp4\n" });
    for (const [text, says] of cases) {
      put(folder, { "prompts.txt": text });
      await assert.rejects(
        readDataset(folder),
        (error) => error instanceof UserErrors && error.problems.length === 1 && says.test(error.problems[0]!),
      );
    }
  }));
