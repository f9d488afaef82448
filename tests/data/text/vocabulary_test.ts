/** Which tokenizers belong to which text encoders. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer, Tokenizer } from "../../../lib/data/text/tokenizer.ts";
import { pieceType } from "../../../lib/data/text/unigram_model.ts";
import { requireVocabulary } from "../../../lib/data/text/vocabulary.ts";
import { UserError } from "../../../lib/errors.ts";
import { fromFileUrl } from "../../paths.ts";

const XXL = { vocab_size: 32128, d_model: 4096 };

/** Ids of T5 as the documentation of transformers has them, for the words of the text that is asked for. */
const T5: Readonly<Record<number, string>> = {
  0: "<pad>",
  1: "</s>",
  2: "<unk>",
  5: ".",
  10: ":",
  12: "\u2581to",
  19: "\u2581is",
  37: "\u2581The",
  629: "\u2581house",
  1566: "\u2581English",
  1627: "\u2581wonderful",
  2968: "\u2581German",
  13959: "\u2581translate",
};

/** A tokenizer of so many pieces, with those of T5 at the ids that `place` gives them. */
function tokenizerOf(count: number, place: (id: number) => number = (id) => id): Tokenizer {
  const pieces = Array.from({ length: count }, (_, id) => {
    const type = id === 2 ? pieceType.unknown : pieceType.normal;
    return { text: `\u2581no word ${id}`, score: -1, type };
  });
  for (const [id, text] of Object.entries(T5)) {
    const at = place(Number(id));
    pieces[at] = { ...pieces[at]!, text };
  }
  return new Tokenizer({ pieces, charsmap: new Uint8Array() }, "spiece.model");
}

const refused = (says: RegExp) => (error: unknown) =>
  error instanceof UserError && says.test(error.summary) && error.hint !== undefined;

Deno.test("the text encoder of CogVideoX takes the vocabulary of T5, and none in which a known text has other ids", () => {
  requireVocabulary(tokenizerOf(32_000), XXL, "model");
  // All words behind 1566 one further, as when a piece is lost or added.
  const shifted = tokenizerOf(32_000, (id) => id > 1566 ? id + 1 : id);
  assert.throws(
    () => requireVocabulary(shifted, XXL, "model"),
    refused(
      /tokenizer of "model" makes 13960,1566,12,2969,10,37,629,19,1628,5 of "translate English.*expected 13959,1566/,
    ),
  );
  const exchanged = tokenizerOf(32_000, (id) => id === 12 ? 19 : id === 19 ? 12 : id);
  assert.throws(() => requireVocabulary(exchanged, XXL, "model"), refused(/expected 13959,1566,12,2968,10,37,629,19/));
});

Deno.test("small text encoders have vocabularies of their own, but no fewer rows than pieces", () => {
  const own = loadTokenizer(join(fromFileUrl("../../../examples/tiny-2b", import.meta.url), "tokenizer"));
  for (const vocab_size of [1000, 1128, 32128]) requireVocabulary(own, { vocab_size, d_model: 32 }, "model");
  assert.throws(
    () => requireVocabulary(own, { vocab_size: 999, d_model: 32 }, "model"),
    refused(/tokenizer of "model" has 1000 pieces, its text_encoder knows 999/),
  );
  assert.throws(() => requireVocabulary(own, XXL, "model"), refused(/expected 13959/));
});
