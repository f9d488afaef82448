/** Compares token ids with those of the transformers tokenizer. */
import { readFileSync } from "node:fs";
import { loadTokenizer } from "../../../lib/data/text/tokenizer.ts";
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

/** How many prompts are stored, and those whose ids, token count or cut differ. */
export function compareTokens(): { readonly prompts: number; readonly wrong: readonly string[] } {
  const golden: GoldenFile = JSON.parse(readFileSync(referencePath("text/tokenizer.json"), "utf8"));
  const tokenizer = loadTokenizer(`${pipelineOf({ config: { pipeline: golden.pipeline } })}/tokenizer`);
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
