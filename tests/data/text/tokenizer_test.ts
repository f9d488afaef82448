import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { loadTokenizer, Tokenizer } from "../../../lib/data/text/tokenizer.ts";
import { Unigram } from "../../../lib/data/text/unigram.ts";
import { parseUnigramModel } from "../../../lib/data/text/unigram_model.ts";
import { UserError } from "../../../lib/errors.ts";
import { casesOf, pipelineFor, referencePath } from "../../reference.ts";
import { compareTokens, storedTokenizer, tokenizerJson } from "./tokenizer_case.ts";

function modelBytes(): Uint8Array {
  return readFileSync(join(pipelineFor("2b"), "tokenizer", "spiece.model"));
}

Deno.test("Tokenizer: every golden prompt gives the ids of the transformers tokenizer", () => {
  const { prompts, wrong } = compareTokens();
  assert.deepEqual(wrong, []);
  assert.ok(prompts > 60);
});

Deno.test("Tokenizer: tokenizer.json gives the ids of the transformers tokenizer too", () => {
  const stored = storedTokenizer();
  const fast = join(stored, "tokenizer.json");
  const made = JSON.stringify(tokenizerJson(readFileSync(join(stored, "spiece.model"))));
  // The one that the library itself has saved, where the set of golden files holds it.
  for (const text of existsSync(fast) ? [made, readFileSync(fast, "utf8")] : [made]) {
    const folder = mkdtempSync(join(tmpdir(), "cogtune-test-"));
    try {
      writeFileSync(join(folder, "tokenizer.json"), text);
      assert.deepEqual(compareTokens(folder).wrong, []);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
});

Deno.test("Tokenizer: all golden pipelines load, with the pieces of tokenizer.json where there is one", () => {
  for (const { file } of casesOf("pipelines")) {
    const path = join(dirname(referencePath(file)), "tokenizer");
    const tokenizer = loadTokenizer(path);
    const fastFile = join(path, "tokenizer.json");
    if (!existsSync(fastFile)) continue;
    const fast = JSON.parse(readFileSync(fastFile, "utf8"));
    assert.equal(tokenizer.vocabularySize, fast.model.vocab.length);
    for (const { id, content } of fast.added_tokens) assert.deepEqual(tokenizer.tokenize(content), [id]);
  }
});

Deno.test(
  "Tokenizer: special spellings that only normalisation produces are pieces, as in tokenizer.json",
  () => {
    const tokenizer = new Tokenizer(parseUnigramModel(modelBytes(), "model"), "model");
    const [start] = tokenizer.tokenize("<s>");
    const fullWidth = "\uff1c/s\uff1e";
    assert.deepEqual(tokenizer.tokenize(fullWidth), [start, tokenizer.endId]);
  },
);

Deno.test("Tokenizer.fit: names the words that are cut", () => {
  const tokenizer = new Tokenizer(parseUnigramModel(modelBytes(), "model"), "model");
  const words = "The clockmaker waits patiently near the harbour at dawn.".split(" ");
  const text = words.join("  ");
  const total = tokenizer.tokenize(text).length;
  assert.deepEqual(tokenizer.fit(text, total + 1), { tokens: total, cutOff: "" });
  assert.deepEqual(tokenizer.fit(text, total), { tokens: total, cutOff: "dawn." });
  assert.deepEqual(tokenizer.fit(text, 1), { tokens: total, cutOff: text });
  const upToHarbour = tokenizer.tokenize(words.slice(0, 7).join(" ")).length;
  assert.equal(tokenizer.fit(text, upToHarbour + 1).cutOff, "at  dawn.");
  assert.deepEqual([...tokenizer.encode(text, 1)], [tokenizer.endId]);
  assert.deepEqual([...tokenizer.encode(text, 3)], [...tokenizer.tokenize(text).slice(0, 2), tokenizer.endId]);
  for (const length of [0, -1, 1.5]) assert.throws(() => tokenizer.encode("a", length), RangeError);
});

Deno.test(
  "loadTokenizer: a model cut anywhere, or with one byte changed, never gives another exception",
  () => {
    const bytes = modelBytes();
    const parse = (model: Uint8Array) => new Tokenizer(parseUnigramModel(model, "model"), "model");
    for (let size = 0; size < bytes.length; size += 997) {
      assert.throws(() => parse(bytes.slice(0, size)), UserError, `cut at ${size}`);
    }
    const changed = new Uint8Array(bytes);
    let refused = 0;
    for (let at = 0; at < bytes.length; at += 2999) {
      changed[at] = bytes[at]! ^ 0xff;
      try {
        parse(changed).encode("A café, ＦＵＬＬ ẹ́ 🙂", 226);
      } catch (error) {
        assert.ok(error instanceof UserError, `byte ${at}: ${error}`);
        refused++;
      }
      changed[at] = bytes[at]!;
    }
    assert.ok(refused > 0);
  },
);

Deno.test("loadTokenizer: missing, empty and foreign files are user errors", () => {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-test-"));
  try {
    assert.throws(() => loadTokenizer(folder), /spiece\.model": it or its folder does not exist/);
    for (const content of ["", "<html></html>", "\0\0\0\0", '{"model":{}}']) {
      writeFileSync(join(folder, "spiece.model"), content);
      assert.throws(() => loadTokenizer(folder), (error) => {
        return error instanceof UserError && /spiece\.model" is not a SentencePiece unigram model/.test(error.message);
      });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** The best score over all segmentations, by trying every one; an unknown character counts lowest - 10. */
function bestScore(word: string, scores: Map<string, number>, unknown: number): number {
  if (word === "") return 0;
  let best = scores.has(word[0]!) ? -Infinity : unknown + bestScore(word.slice(1), scores, unknown);
  for (let end = 1; end <= word.length; end++) {
    const score = scores.get(word.slice(0, end));
    if (score !== undefined) best = Math.max(best, score + bestScore(word.slice(end), scores, unknown));
  }
  return best;
}

Deno.test("Unigram: finds the best of all segmentations", () => {
  const vocabulary = ["?", "a", "b", "ab", "ba", "aab", "bab", "abba", "c"];
  // Scores are multiples of 1/8, so that sums are exact in any order.
  const pieces = vocabulary.map((text, i) => ({ text, score: -1 - ((i * 5) % 9) / 8 }));
  const scores = new Map(pieces.map(({ text, score }) => [text, score]));
  const unknown = Math.min(...scores.values()) - 10;
  const unigram = new Unigram(pieces, 0);
  for (let n = 0; n < 4 ** 6; n++) {
    const word = Array.from({ length: 6 }, (_, i) => "abcd"[(n >> (2 * i)) & 3]).join("");
    const ids = unigram.encode(word);
    // A run of d is one unknown id: put the characters back before counting.
    let rest = word, score = 0;
    for (const id of ids) {
      const taken = id === 0 ? /^d+/.exec(rest)![0] : vocabulary[id]!;
      assert.ok(rest.startsWith(taken));
      score += id === 0 ? unknown * taken.length : scores.get(taken)!;
      rest = rest.slice(taken.length);
    }
    assert.equal(rest, "");
    assert.equal(score, bestScore(word, scores, unknown), word);
  }
});

Deno.test("Unigram: among equal scores the longest last piece wins", () => {
  const pieces = ["?", "a", "b", "c", "ab", "bc"].map((text, i) => ({ text, score: i < 4 ? -1 : -2 }));
  const unigram = new Unigram(pieces, 0);
  assert.deepEqual(unigram.encode("abc"), [1, 5]);
});
