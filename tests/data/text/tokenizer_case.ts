/** Compares token ids with those of the transformers tokenizer. */
import { readFileSync } from "node:fs";
import { loadTokenizer } from "../../../lib/data/text/tokenizer.ts";

interface GoldenCase {
  readonly prompt: string;
  readonly tokens: number;
  readonly truncated_at_226: boolean;
  readonly ids_226: readonly number[];
  readonly pad_226: number;
}

interface GoldenFile {
  readonly pad: number;
  readonly eos: number;
  readonly unk: number;
  readonly vocabulary_with_extra_ids: number;
  readonly cases: readonly GoldenCase[];
}

/** Prompts of the golden file `file`, and those whose ids, token count or cut differ from it. */
export function compareTokens(
  tokenizerFolder: string,
  file: string,
): { readonly prompts: number; readonly wrong: readonly string[] } {
  const golden: GoldenFile = JSON.parse(readFileSync(file, "utf8"));
  const tokenizer = loadTokenizer(tokenizerFolder);
  const { vocabularySize, padId, endId, unknownId } = tokenizer;
  const wrong: string[] = [];
  const found = [vocabularySize, padId, endId, unknownId];
  if (`${found}` !== [golden.vocabulary_with_extra_ids, golden.pad, golden.eos, golden.unk].join()) {
    wrong.push("vocabulary size or special ids");
  }
  for (const { prompt, tokens, truncated_at_226, ids_226, pad_226 } of golden.cases) {
    const expected = [...ids_226, ...new Array(pad_226).fill(golden.pad)];
    const fit = tokenizer.fit(prompt, 226);
    const same = `${tokenizer.encode(prompt, 226)}` === `${expected}` && fit.tokens === tokens &&
      (fit.cutOff !== "") === truncated_at_226;
    if (!same) wrong.push(JSON.stringify(prompt));
  }
  return { prompts: golden.cases.length, wrong };
}
