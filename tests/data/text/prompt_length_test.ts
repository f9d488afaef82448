/** Notes on prompts that are cut: counted by the tokenizer, or by words where there is none. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { promptLengthNotes } from "../../../lib/data/text/prompt_length.ts";
import { loadTokenizer } from "../../../lib/data/text/tokenizer.ts";
import { fromFileUrl } from "../../paths.ts";

const items = [1, 225, 226, 800].map((words) => ({ name: `${words}.mp4`, prompt: "cat ".repeat(words).trim() }));

Deno.test("promptLengthNotes() counts words where it has no tokenizer: 225 of them and the end token just fit", () => {
  assert.deepEqual(promptLengthNotes(items, 226, undefined), [
    '226.mp4: the prompt has at least 227 tokens, of which 226 are read; cut off: "cat"',
    `800.mp4: the prompt has at least 801 tokens, of which 226 are read; cut off: "${"cat ".repeat(15)}..."`,
  ]);
});

Deno.test("promptLengthNotes() counts the tokens of a tokenizer and shows what the model does not read", () => {
  const tokenizer = loadTokenizer(join(fromFileUrl("../../../examples/tiny-2b", import.meta.url), "tokenizer"));
  const tokens = tokenizer.tokenize(items[3]!.prompt).length;
  const notes = promptLengthNotes(items, tokens, tokenizer);
  assert.equal(notes.length, 1);
  assert.match(
    notes[0]!,
    new RegExp(`^800\\.mp4: the prompt has ${tokens + 1} tokens, of which ${tokens} are read; cut off: "cat"`),
  );
  assert.deepEqual(promptLengthNotes(items, tokens + 1, tokenizer), []);
});
