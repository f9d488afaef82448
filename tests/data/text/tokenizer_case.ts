/** Compares token ids with those of the transformers tokenizer. */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { loadTokenizer } from "../../../lib/data/text/tokenizer.ts";
import { parseUnigramModel, pieceType } from "../../../lib/data/text/unigram_model.ts";
import { pipelineOf, referencePath } from "../../reference.ts";

/** Ids padded or cut to length N are in `ids_N`; of length 226 the padding, `pad_226` ids, is left away. */
interface GoldenCase {
  readonly prompt: string;
  readonly tokens: number;
  readonly pad_226: number;
  readonly [ids: `ids_${number}`]: readonly number[];
}

interface GoldenFile {
  readonly pipeline: string;
  readonly pad: number;
  readonly eos: number;
  readonly unk: number;
  readonly vocabulary_with_extra_ids: number;
  readonly cases: readonly GoldenCase[];
}

/** What transformers makes of the bytes of a `spiece.model` when it saves a fast tokenizer. */
export function tokenizerJson(model: Uint8Array): Record<string, unknown> {
  const { pieces, charsmap } = parseUnigramModel(model, "spiece.model");
  const sentinels = Array.from({ length: 100 }, (_, i) => `<extra_id_${99 - i}>`);
  const metaspace = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true };
  return {
    version: "1.0",
    added_tokens: sentinels.map((content, i) => ({ id: pieces.length + i, content, special: true })),
    normalizer: { type: "Precompiled", precompiled_charsmap: Buffer.from(charsmap).toString("base64") },
    pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] },
    model: {
      type: "Unigram",
      unk_id: pieces.findIndex(({ type }) => type === pieceType.unknown),
      vocab: [...pieces.map(({ text, score }) => [text, score]), ...sentinels.map((text) => [text, 0])],
      byte_fallback: false,
    },
  };
}

/** Folder of the tokenizer whose ids are stored. */
export function storedTokenizer(): string {
  const { pipeline }: GoldenFile = JSON.parse(readFileSync(referencePath("text/tokenizer.json"), "utf8"));
  return `${pipelineOf({ config: { pipeline } })}/tokenizer`;
}

/** How many prompts are stored, and those whose ids, token count or cut differ. */
export function compareTokens(
  folder = storedTokenizer(),
): { readonly prompts: number; readonly wrong: readonly string[] } {
  const golden: GoldenFile = JSON.parse(readFileSync(referencePath("text/tokenizer.json"), "utf8"));
  const tokenizer = loadTokenizer(folder);
  const { vocabularySize, padId, endId, unknownId } = tokenizer;
  const wrong: string[] = [];
  const found = [vocabularySize, padId, endId, unknownId];
  if (`${found}` !== [golden.vocabulary_with_extra_ids, golden.pad, golden.eos, golden.unk].join()) {
    wrong.push("vocabulary size or special ids");
  }
  for (const { prompt, tokens, pad_226, ...stored } of golden.cases) {
    const lengths = Object.keys(stored).flatMap((key) => /^ids_(\d+)$/.exec(key)?.[1] ?? []).map(Number);
    const same = lengths.every((length) => {
      const padding: number[] = new Array(length === 226 ? pad_226 : 0).fill(golden.pad);
      const fit = tokenizer.fit(prompt, length);
      return `${tokenizer.encode(prompt, length)}` === `${[...stored[`ids_${length}`]!, ...padding]}` &&
        fit.tokens === tokens && (fit.cutOff !== "") === tokens > length - 1;
    });
    if (lengths.length === 0 || !same) wrong.push(JSON.stringify(prompt));
  }
  return { prompts: golden.cases.length, wrong };
}
