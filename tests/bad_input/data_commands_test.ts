/** Words and files that the commands about datasets and configs cannot use: exit code 2, one message, nothing written. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertUntouched, command, listing, withCopies } from "./command.ts";

/** What is prepared in a folder, the words, and what they are answered with. */
interface Case {
  readonly prepare?: (folder: string) => void;
  readonly words: (folder: string) => readonly string[];
  readonly says: RegExp;
}

const check = (...words: readonly string[]) => (folder: string) => [
  ...["data", "check", `--data_root=${join(folder, "clips")}`],
  ...words.map((word) => word.replace("FOLDER", folder)),
];

const CASES: Readonly<Record<string, Case>> = {
  "no dataset": { words: () => ["data", "check"], says: /^error: No dataset given\nHint: Add --data_root FOLDER/m },
  "a dataset that is not there": {
    words: check("--data_root=FOLDER/none"),
    says: /^problem: .*none: no such folder$/m,
  },
  "a text file for a dataset": {
    prepare: (folder) => writeFileSync(join(folder, "note.txt"), "hello\n"),
    words: check("--data_root=FOLDER/note.txt"),
    says: /^problem: .*note\.txt: is neither a table of clips nor a list of datasets$/m,
  },
  "links in a circle": {
    prepare: (folder) => symlinkSync(join(folder, "circle"), join(folder, "circle")),
    words: check("--data_root=FOLDER/circle"),
    says: /circle": its symbolic links lead in a circle|circle: no such folder/,
  },
  "a NUL in a path": {
    prepare: (folder) => writeFileSync(join(folder, "mine.yaml"), 'model: 2b\ndata_root: "a\\0b"\n'),
    words: (folder) => ["data", "check", join(folder, "mine.yaml")],
    says: /mine\.yaml:2:12 data_root: contains a NUL character/,
  },
  "a page into a folder that is not there": {
    words: check("--html=FOLDER/none/page.html"),
    says: /Cannot write ".*none\/page\.html": its folder does not exist/,
  },
  "a page over a folder": {
    prepare: (folder) => mkdirSync(join(folder, "page.html")),
    words: check("--html=FOLDER/page.html"),
    says: /Cannot write ".*page\.html": a folder stands there/,
  },
  "a model that is not there": {
    words: check("--model=2b", "--model_path=FOLDER/none"),
    says: /^problem: Cannot use model_path ".*none".*\n.*none" does not exist/m,
  },
  "a model of another kind": {
    words: check("--model_path=FOLDER/model", "--model_name=cogvideox-i2v"),
    says: /^problem: Config and model are of different kinds.*\n.*model_name is cogvideox-i2v/m,
  },
  "lists of validation that are not there": {
    words: check(
      ...["--do_validation", "--validation_dir=FOLDER", "--validation_prompts=p.txt", "--validation_steps=200"],
    ),
    says: /^problem: Cannot validate.*\n.*p\.txt: no such file/m,
  },
  "several mistakes of settings and files": {
    words: check("--data_root=FOLDER/none", "--rank=0", "--heldout_root=FOLDER/neither"),
    says: /2 problems\n.*--rank: expected[^]*neither: no such folder/,
  },
  "an import without a place": {
    words: (folder) => ["data", "import", `--data_root=${join(folder, "clips")}`],
    says: /^error: No folder to write to\nHint: Add --to FOLDER/m,
  },
  "an import over a file": {
    prepare: (folder) => writeFileSync(join(folder, "lists"), ""),
    words: (folder) => ["data", "import", `--data_root=${join(folder, "clips")}`, `--to=${join(folder, "lists")}`],
    says: /Cannot create ".*lists": /,
  },
  "a config import of nothing": { words: () => ["config", "import"], says: /Expected argument for FILE/ },
  "a config import of a folder": {
    words: (folder) => ["config", "import", folder],
    says: /Cannot read ".*": a file stands where a folder is expected/,
  },
};

for (const [name, { prepare, words, says }] of Object.entries(CASES)) {
  Deno.test(`data and config refuse ${name}`, () =>
    withCopies(async (folder) => {
      prepare?.(folder);
      const before = listing(folder);
      const { code, out, error } = await command(words(folder));
      assert.equal(code, 2, out + error);
      assert.match(out + error, says);
      assert.doesNotMatch(out + error, /\.ts:\d+/, "no stack");
      assertUntouched(folder, before);
    }));
}
