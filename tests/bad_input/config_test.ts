/** Settings that cannot be used: the message names key and value, what is expected, and the nearest that is right. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertRefused, command, trainWords, withCopies } from "./command.ts";

const CASES: Readonly<Record<string, readonly [words: readonly string[], ...says: RegExp[]]>> = {
  "48 frames": [["--train_resolution=48x480x720"], /--train_resolution: 48 frames: expected 8N \+ 1 .* use 41 or 49/],
  "sizes that are no multiples of 16": [
    ["--train_resolution=9x100x50"],
    /--train_resolution: height 100: expected a multiple of 16; use 96 or 112/,
    /--train_resolution: width 50: expected a multiple of 16; use 48 or 64/,
  ],
  "an unknown flag": [["--lerning_rate=1"], /--lerning_rate: unknown key .*; did you mean "learning_rate"\?/],
  "an unknown setting": [["rnak=4"], /rnak=4|rnak: unknown key "rnak"; did you mean "rank"\?/],
  "a word that is no setting": [["clips"], /"clips": expected a YAML file, --key value or key=value/],
  "text for a number": [["--learning_rate=1e-4x"], /--learning_rate: expected a number.*, found the text "1e-4x"/],
  "a rank of nothing": [["--rank=0"], /--rank: expected a whole number from 1 to 4096, found 0/],
  "an unknown choice": [
    ["--optimizer=adamv"],
    /--optimizer: expected .*found the text "adamv"; did you mean "adamw"\?/,
  ],
  "validation without its folder": [
    ["--do_validation=true", "--validation_prompts=prompts.txt"],
    /validation_dir: .*do_validation/,
  ],
  "an unknown preset": [["--preset=5b-lore"], /preset "5b-lore"; did you mean "5b-lora"\?/],
};

for (const [name, [words, ...says]] of Object.entries(CASES)) {
  Deno.test(`train refuses ${name}`, () =>
    withCopies((folder) =>
      assertRefused(folder, { says }, () => command(trainWords(folder, ...words))).then(() => undefined)
    ));
}

const FILES: Readonly<Record<string, readonly [text: string, ...says: RegExp[]]>> = {
  "an unknown key": ["seed: 3\nrnak: 4\n", /mine\.yaml:2:1: unknown key "rnak"; did you mean "rank"\?/],
  "a key that stands twice": ["seed: 3\nseed: 4\n", /mine\.yaml:2:1 Map keys must be unique/],
  "tabs as indentation": ["target_modules:\n\t- to_q\n", /mine\.yaml:2:1 Tabs are not allowed as indentation/],
  "aliases that multiply": [
    `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n`,
    /mine\.yaml:2:8 aliases are not allowed/,
  ],
  "a value of another type": [
    "rank: [4]\n",
    /mine\.yaml:1:7 rank: expected a whole number from 1 to 4096, found \[4\]/,
  ],
};

for (const [name, [text, ...says]] of Object.entries(FILES)) {
  Deno.test(`train refuses a config file with ${name}`, () =>
    withCopies(async (folder) => {
      const file = join(folder, "mine.yaml");
      writeFileSync(file, text);
      await assertRefused(folder, { says }, () => command(["train", file]));
    }));
}
