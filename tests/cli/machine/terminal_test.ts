/** Whatever a message holds, a terminal finds nothing in it to obey. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createTerminal } from "../../../lib/cli/machine/terminal.ts";
import { UserError } from "../../../lib/errors.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { command } from "../../bad_input/command.ts";
import { examples, inScratch } from "../../train/runs.ts";
import { EVENTS } from "../../train/launch/bridge/messages.ts";
import { cli } from "../fakes.ts";

/** Colour, title, clear screen (also as one byte of C1), backspaces, carriage return, DEL; text that runs backwards. */
const HOSTILE = "x\x1b[31mRED\x1b]0;pwn\x07\x9b2J\b\b\rcut\x7f\x00\u202egnp.exe\u2066\u2028\u200b\ufeff";
const SHOWN = "x\\u{1b}[31mRED\\u{1b}]0;pwn\\u{7}\\u{9b}2J\\u{8}\\u{8}\\u{d}cut\\u{7f}\\u{0}" +
  "\\u{202e}gnp.exe\\u{2066}\\u{2028}\\u{200b}\\u{feff}";

/** The hostile words without characters that their place can't hold. */
const without = (...characters: readonly string[]) => characters.reduce((text, c) => text.replaceAll(c, ""), HOSTILE);

// deno-lint-ignore no-control-regex -- what must not be there
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff]/;

/** Fails where a terminal would obey; a redrawn line begins with a carriage return and ends with "clear to the end". */
function assertHarmless(text: string): void {
  // deno-lint-ignore no-control-regex -- the two sequences of a redrawn line
  assert.doesNotMatch(text.replaceAll(/\r([^\r\n]*?)\x1b\[K/g, "$1"), CONTROL);
}

/** The same event with hostile words in every text that is not its kind. */
function hostile(event: TrainEvent): TrainEvent {
  const words = Object.entries(event).map(([key, value]) =>
    [key, typeof value === "string" && !["type", "kind"].includes(key) ? HOSTILE : value] as const
  );
  return Object.fromEntries(words) as unknown as TrainEvent;
}

const trainArguments = ["--data_root", join(examples, "clips"), "--model_path", join(examples, "tiny-2b")];

Deno.test("every event, a setting and an error show control characters, in a file and on a terminal", async () => {
  const events = async function* (): AsyncIterable<TrainEvent> {
    for (const event of Object.values(EVENTS).flat()) yield await Promise.resolve(hostile(event));
    throw new UserError(HOSTILE, HOSTILE);
  };
  for (const options of [{ events }, { events, columns: 500 }]) {
    const { out, error } = await cli([...trainArguments, "--output_dir", without("\x00")], options);
    assertHarmless(out);
    assertHarmless(error);
    assert.equal(error, `error: ${SHOWN}\nHint: ${SHOWN}\n`);
    const texts = ["Output: ", "warning: ", "sampled ", "saved "].map((words) => `${words}${SHOWN}`);
    for (const text of texts) assert.ok(out.includes(text), text);
  }
});

Deno.test("line breaks, tabs, letters of every script and joined emoji stay", async () => {
  const text = "a\tb\nπ 中 नमस्ते שלום 👩‍🚀 e\u0301";
  const { error } = await cli(trainArguments, {
    // deno-lint-ignore require-yield -- a run that fails at once
    async *events() {
      throw await Promise.resolve(new UserError(text));
    },
  });
  assert.equal(error, `error: ${text}\n`);
});

Deno.test("names in a dataset, a setting that does not exist and ffmpeg's words reach the terminal harmless", () =>
  inScratch(async (folder) => {
    const data = join(folder, "data");
    const name = without("\x00", "\r", "\u2028");
    mkdirSync(join(data, "videos"), { recursive: true });
    writeFileSync(join(data, "prompts.txt"), `${without("\r")}\na prompt\n`);
    writeFileSync(join(data, "videos.txt"), `videos/${name}.mp4\nvideos/absent${name}.mp4\n`);
    // A file that ffmpeg refuses with a message that quotes it.
    writeFileSync(join(data, `videos/${name}.mp4`), HOSTILE.repeat(1000));
    // No command line can hold a NUL.
    const word = without("\x00");
    const words = [
      ["data", "check", "--data_root", data],
      ["data", "check", "--data_root", `${data}${word}`],
      ["train", `--${word}`, "1"],
      ["plan", "--gpu", word],
      [word],
      ["lora", "inspect", word],
      ["sample", "--model_path", word, "--prompt", word],
    ];
    for (const args of words) {
      const { code, out, error } = await command(args);
      assert.equal(code, 2, args.join(" "));
      assertHarmless(out);
      assertHarmless(error);
      assert.match(out + error, /\\u\{1b\}\[31mRED|\\u001b\[31mRED/, args.join(" "));
    }
  }));

Deno.test("JSON for programs says the same as its value without a character that a terminal obeys", () => {
  let written = "";
  const out = (text: string) => void (written += text);
  createTerminal({ out, error: out, columns: () => undefined }).json({ text: HOSTILE, [HOSTILE]: "a\tb\nc" });
  assertHarmless(written);
  assert.equal(written.split("\n").length, 2, "one line");
  assert.deepEqual(JSON.parse(written), { text: HOSTILE, [HOSTILE]: "a\tb\nc" });
});
