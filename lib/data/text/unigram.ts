/** Splits words into the pieces of a unigram model (Kudo, "Subword Regularization", 2018). */
import type { Piece } from "./unigram_model.ts";

/**
 * Unigram segmentation: the split of a word into vocabulary pieces with the highest sum of scores, by dynamic
 * programming over the positions between characters (Viterbi).
 *
 * Scores are added in float64 and ties are broken as the Hugging Face "fast" tokenizer does: a path replaces another
 * only with a strictly greater score, starts are visited from left to right and shorter pieces first.
 */
export class Unigram {
  readonly #ids = new Map<string, number>();
  readonly #scores: Float64Array;
  readonly #unknownId: number;
  readonly #unknownScore: number;
  /** Length of the longest piece in characters. */
  readonly #longest: number;

  /** `pieces` are found in text by their spelling, whatever their type; `unknownId` stands for all other characters. */
  constructor(pieces: readonly Pick<Piece, "text" | "score">[], unknownId: number) {
    let lowest = Infinity;
    let longest = 0;
    pieces.forEach(({ text, score }, id) => {
      this.#ids.set(text, id);
      lowest = Math.min(lowest, score);
      longest = Math.max(longest, [...text].length);
    });
    this.#scores = Float64Array.from(pieces, ({ score }) => score);
    this.#unknownId = unknownId;
    // The penalty of the reference: far below every piece, so that unknown is a last resort.
    this.#unknownScore = lowest - 10;
    this.#longest = longest;
  }

  /** Ids of the best split of `word`; a run of unknown characters becomes one id. */
  encode(word: string): number[] {
    const characters = [...word];
    const count = characters.length;
    const best = new Float64Array(count + 1);
    const from = new Int32Array(count + 1).fill(-1);
    const id = new Int32Array(count + 1);
    function relax(start: number, end: number, piece: number, score: number): void {
      if (from[end]! >= 0 && !(score > best[end]!)) return;
      best[end] = score;
      from[end] = start;
      id[end] = piece;
    }
    for (let start = 0; start < count; start++) {
      let text = "";
      let single = false;
      for (let end = start + 1; end <= count && end - start <= this.#longest; end++) {
        text += characters[end - 1];
        const piece = this.#ids.get(text);
        if (piece === undefined) continue;
        single ||= end === start + 1;
        relax(start, end, piece, best[start]! + this.#scores[piece]!);
      }
      if (!single) relax(start, start + 1, this.#unknownId, best[start]! + this.#unknownScore);
    }
    const ids: number[] = [];
    for (let end = count; end > 0; end = from[end]!) {
      const piece = id[end]!;
      if (piece !== this.#unknownId || ids.at(-1) !== piece) ids.push(piece);
    }
    return ids.reverse();
  }
}
