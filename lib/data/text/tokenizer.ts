/** Text to token ids, as T5 was trained to read them. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { fileError } from "../../io/file_operations.ts";
import { Charsmap } from "./charsmap.ts";
import { Unigram } from "./unigram.ts";
import { parseTokenizerJson } from "./tokenizer_json.ts";
import { parseUnigramModel, pieceType, type UnigramModel } from "./unigram_model.ts";

/** T5 appends this many `<extra_id_n>` tokens to its pieces, the highest n first. */
export const SENTINELS = 100;

/** Marks where a word begins. */
const wordStart = "\u2581";

/** Unicode White_Space; JavaScript's `\s` lacks U+0085 and has U+FEFF. */
const whiteSpace = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** What {@linkcode Tokenizer.fit} says about a text. */
export interface TextFit {
  /** Tokens of the whole text, without the end token. */
  readonly tokens: number;
  /** The end of the text that does not fit; empty when all of it does. */
  readonly cutOff: string;
}

/**
 * Reads the tokenizer of a diffusers folder from its `spiece.model`, or where there is none from `tokenizer.json`.
 *
 * @throws {UserError} when the file is missing, damaged or not the unigram model of a T5.
 */
export function loadTokenizer(folder: string): Tokenizer {
  const json = join(folder, "tokenizer.json");
  const isJson = !existsSync(join(folder, "spiece.model")) && existsSync(json);
  const path = isJson ? json : join(folder, "spiece.model");
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw fileError(error, "read", path);
  }
  const where = `"${path}"`;
  const model = isJson ? parseTokenizerJson(new TextDecoder().decode(bytes), where) : parseUnigramModel(bytes, where);
  return new Tokenizer(model, where);
}

/**
 * The T5 tokenizer: text to token ids as the "fast" tokenizer of transformers produces them.
 *
 * Special tokens spelled out in the text become their ids; what lies between is normalised, split at white space, given
 * a word-start mark per word and segmented by a unigram model.
 */
export class Tokenizer {
  /** Number of token ids, sentinels included. The embedding table of T5 may have more rows, as padding. */
  readonly vocabularySize: number;
  /** Id that fills up to the wanted length, `<pad>`. */
  readonly padId: number;
  /** Id that ends every text, `</s>`. */
  readonly endId: number;
  /** Id of characters without a piece, `<unk>`. */
  readonly unknownId: number;
  readonly #charsmap: Charsmap;
  readonly #unigram: Unigram;
  readonly #specials: ReadonlyMap<string, number>;
  readonly #specialPattern: RegExp;
  /** Words repeat within and across prompts. */
  readonly #words = new Map<string, readonly number[]>();

  /**
   * A tokenizer from the content of a file, which `where` names in messages.
   *
   * @throws {UserError} as {@linkcode loadTokenizer} does.
   */
  constructor({ pieces, charsmap }: UnigramModel, where: string) {
    const id = (text: string) => pieces.findIndex((piece) => piece.text === text);
    this.padId = id("<pad>");
    this.endId = id("</s>");
    this.unknownId = pieces.findIndex(({ type }) => type === pieceType.unknown);
    if (this.padId < 0 || this.endId < 0 || this.unknownId < 0) {
      throw new UserError(
        `${where} is not the model of a T5 tokenizer: it lacks <pad>, </s> or an unknown piece`,
        "use the tokenizer folder of a CogVideoX model",
      );
    }
    const sentinels = Array.from({ length: SENTINELS }, (_, i) => `<extra_id_${SENTINELS - 1 - i}>`);
    // The fast tokenizer finds special spellings that only normalisation produces (full-width letters) as pieces.
    const vocabulary = [...pieces, ...sentinels.map((text) => ({ text, score: 0 }))];
    this.vocabularySize = vocabulary.length;
    this.#charsmap = new Charsmap(charsmap, where);
    this.#unigram = new Unigram(vocabulary, this.unknownId);
    this.#specials = new Map([
      ["<pad>", this.padId],
      ["</s>", this.endId],
      [pieces[this.unknownId]!.text, this.unknownId],
      ...sentinels.map((text, i): [string, number] => [text, pieces.length + i]),
    ]);
    this.#specialPattern = new RegExp(`(${[...this.#specials.keys()].map(RegExp.escape).join("|")})`);
  }

  /**
   * Token ids of `text` cut to `length - 1`, the end token, then padding.
   *
   * @returns exactly `length` ids.
   */
  encode(text: string, length: number): Int32Array<ArrayBuffer> {
    checkLength(length);
    const ids = this.tokenize(text).slice(0, length - 1);
    const padded = new Int32Array(length).fill(this.padId);
    padded.set(ids);
    padded[ids.length] = this.endId;
    return padded;
  }

  /** All token ids of `text`, without end token or padding. */
  tokenize(text: string): number[] {
    // A lone surrogate has no UTF-8 form; the reference never sees one.
    const parts = text.toWellFormed().split(this.#specialPattern);
    return parts.flatMap((part) => {
      const special = this.#specials.get(part);
      return special === undefined ? this.#plain(part) : [special];
    });
  }

  /** How many tokens `text` has, and which end of it `encode(text, length)` leaves out, from the first word it cuts. */
  fit(text: string, length: number): TextFit {
    checkLength(length);
    const tokens = this.tokenize(text).length;
    if (tokens < length) return { tokens, cutOff: "" };
    let start = 0;
    let count = 0;
    for (const word of text.matchAll(/\S+/g)) {
      start = word.index;
      count += this.tokenize(word[0]).length;
      if (count >= length) break;
    }
    return { tokens, cutOff: text.slice(start) };
  }

  #plain(text: string): number[] {
    const words = this.#charsmap.normalize(text).split(whiteSpace).filter((word) => word !== "");
    return words.flatMap((word) => this.#word(word));
  }

  #word(word: string): readonly number[] {
    const known = this.#words.get(word);
    if (known !== undefined) return known;
    const ids = this.#unigram.encode(wordStart + word);
    // A long-lived process must not keep every word it ever met.
    if (this.#words.size >= 100_000) this.#words.clear();
    this.#words.set(word, ids);
    return ids;
  }
}

function checkLength(length: number): void {
  if (Number.isInteger(length) && length > 0) return;
  throw new RangeError(`Cannot encode a text into ${length} tokens: the length must be an integer from 1 up`);
}
