/** Tokenizer files that are damaged or of another kind: everything that is wrong with them is named. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Charsmap } from "../../../lib/data/text/charsmap.ts";
import { Tokenizer } from "../../../lib/data/text/tokenizer.ts";
import { parseTokenizerJson } from "../../../lib/data/text/tokenizer_json.ts";
import { parseUnigramModel } from "../../../lib/data/text/unigram_model.ts";
import { UserError } from "../../../lib/errors.ts";
import { pipelineFor } from "../../reference.ts";
import { tokenizerJson } from "./tokenizer_case.ts";

// deno-lint-ignore no-explicit-any -- any part of it is replaced by something else
type Json = any;

function refused(read: () => unknown, ...says: readonly RegExp[]): void {
  assert.throws(read, (error) => {
    assert.ok(error instanceof UserError, `${error}`);
    assert.ok(error.message.startsWith("FILE"), error.message);
    assert.ok(error.hint !== undefined);
    for (const expected of says) assert.match(error.message, expected);
    return true;
  });
}

Deno.test("tokenizer.json of another kind, or damaged", () => {
  const whole = tokenizerJson(readFileSync(join(pipelineFor("2b"), "tokenizer", "spiece.model")));
  const step = (type: string, rest: object = {}) => ({ type, ...rest });
  const changes: readonly (readonly [(file: Json) => void, ...RegExp[]])[] = [
    [({ model }) => model.type = "BPE", /model\.type is "BPE": expected "Unigram"/],
    [({ model }) => model.byte_fallback = true, /byte_fallback is true/],
    [({ model }) => model.vocab = {}, /model\.vocab holds no pieces/],
    [({ model }) => model.vocab = [["<extra_id_0>", 0]], /model\.vocab holds no pieces/],
    [({ model }) => model.vocab[2] = ["a"], /model\.vocab\[2\] is no piece with a score/],
    [({ model }) => model.vocab[2] = "a", /model\.vocab\[2\] is no piece/],
    [({ model }) => model.vocab[2] = ["", 0], /model\.vocab\[2\] is no piece/],
    [({ model }) => model.unk_id = 1e9, /lacks <pad>, <\/s> or an unknown piece/],
    [(file) => file.normalizer = step("Lowercase"), /normalizer has a step "Lowercase": expected Precompiled or Strip/],
    [
      (file) => file.normalizer = step("Replace", { pattern: { Regex: "x" } }),
      /normalizer replaces \{"Regex":"x"\}: expected blanks/,
    ],
    [(file) => file.pre_tokenizer = null, /pre_tokenizer has no Metaspace that marks every word/],
    [(file) => file.pre_tokenizer = step("ByteLevel"), /step "ByteLevel": expected WhitespaceSplit/, /no Metaspace/],
    [(file) => file.pre_tokenizer = step("Metaspace", { replacement: "_" }), /no Metaspace/],
    [
      (file) => file.pre_tokenizer = step("Metaspace", { replacement: "\u2581", prepend_scheme: "first" }),
      /prepend_scheme is "first": expected "always"/,
    ],
    [
      (file) =>
        file.normalizer = step("Sequence", { normalizers: [step("Precompiled", { precompiled_charsmap: "!" })] }),
      /precompiled_charsmap is not base64/,
    ],
    [
      (file) => file.normalizer = step("Precompiled", { precompiled_charsmap: 5 }),
      /precompiled_charsmap is not base64/,
    ],
    [
      (file) => file.normalizer = step("Precompiled", { precompiled_charsmap: "AQ==" }),
      /damaged normalisation rules: a trie of 0 bytes in 1/,
    ],
  ];
  for (const [change, ...says] of changes) {
    const file = structuredClone(whole);
    change(file);
    refused(() => new Tokenizer(parseTokenizerJson(JSON.stringify(file), "FILE"), "FILE"), ...says);
  }
  refused(() => parseTokenizerJson("{", "FILE"), /is not JSON/);
  const everything = [/model\.type is undefined/, /holds no pieces/, /no Metaspace/];
  for (const text of ["[]", "null", "5", "{}"]) refused(() => parseTokenizerJson(text, "FILE"), ...everything);
});

/** A field of a protocol-buffers message: of bytes, or of a number where `value` is one. */
function field(number: number, value: number | readonly number[]): number[] {
  return typeof value === "number" ? [number * 8, value] : [number * 8 + 2, value.length, ...value];
}

Deno.test("SentencePiece models of another kind, or damaged", () => {
  const score = [...new Uint8Array(Float32Array.of(-1).buffer)];
  const notANumber = [...new Uint8Array(Float32Array.of(NaN).buffer)];
  const piece = (text: readonly number[], value: readonly number[] = score) =>
    field(1, [...field(1, text), 2 * 8 + 5, ...value]);
  const [a, rest] = [piece([0x61]), field(3, [])];
  const cases: readonly (readonly [readonly number[], RegExp])[] = [
    [[], /it holds no pieces/],
    [rest, /it holds no pieces/],
    [a, /it holds no normaliser settings/],
    [[...a, ...field(2, field(3, 2)), ...rest], /its model type is 2, expected 1 \(unigram\)/],
    [field(1, [2 * 8 + 5, ...score]), /a piece has no text/],
    [piece([0xff]), /encoded data was not valid|not a SentencePiece/],
    [piece([0x61], notANumber), /piece "a" has no finite score/],
    [field(1, 5), /a number stands where bytes are expected/],
    [field(1, field(1, 5)), /a number stands where bytes are expected/],
    [field(1, [...field(1, [0x61]), ...field(2, [0, 0])]), /a score has 2 bytes, expected 4/],
    [field(1, [...field(1, [0x61]), 2 * 8 + 1, 0, 0, 0, 0, 0, 0, 0, 0]), /a score has 8 bytes, expected 4/],
    [[0, 0], /a field has number 0/],
    [[1 * 8 + 3], /field 1 has unknown wire type 3/],
    [[1 * 8 + 2, 9, 0], /it ends inside field 1/],
    [[1 * 8 + 5, 0], /it ends inside field 1/],
    [[1 * 8 + 2], /it ends inside a number, at byte 1/],
    [[255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], /a number has no end, at byte 10/],
  ];
  for (const [bytes, says] of cases) refused(() => parseUnigramModel(Uint8Array.from(bytes), "FILE"), says);
  const { pieces, charsmap } = parseUnigramModel(Uint8Array.from([...a, ...field(2, field(3, 1)), ...rest]), "FILE");
  assert.deepEqual([pieces, charsmap.length], [[{ text: "a", score: -1, type: 1 }], 0]);
  // Sound as a model, but of nothing that a T5 reads.
  refused(() => new Tokenizer({ pieces, charsmap }, "FILE"), /lacks <pad>, <\/s> or an unknown piece/);
});

Deno.test("normalisation rules whose nodes lead out of the trie replace nothing and end", () => {
  const words = (...values: number[]) => new Uint8Array(Uint32Array.of(...values).buffer);
  for (const size of [0, 3, 6, 400]) {
    refused(() => new Charsmap(words(size, 0), "FILE"), new RegExp(`a trie of ${size} bytes in 8`));
  }
  for (const units of [[0xffffffff], [0x3ff << 10, 0, 0], [0x161 << 10, ...new Array<number>(300).fill(0x561)]]) {
    const charsmap = new Charsmap(words(4 * units.length, ...units), "FILE");
    assert.equal(charsmap.normalize("z\u0301 \u{1f600}"), "z\u0301 \u{1f600}");
  }
});
