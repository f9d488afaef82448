/** Normalisation rules of a SentencePiece model: full-width letters, ligatures and the like become plain ones. */
import { UserError } from "../../errors.ts";

/**
 * The normalisation rules of a SentencePiece model: a trie from UTF-8 byte sequences to replacement strings.
 *
 * Layout: the byte length of the trie as a little-endian uint32, the trie as a Darts double array of 32-bit units, then
 * the replacement strings, each ended by a zero byte.
 */
export class Charsmap {
  readonly #units: Uint32Array;
  readonly #strings: Uint8Array;

  /**
   * The rules in `bytes`, none when it is empty; `where` names the file in messages.
   *
   * @throws {UserError} when the length of the trie is impossible.
   */
  constructor(bytes: Uint8Array, where: string) {
    const size = bytes.length >= 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) : 0;
    if (bytes.length > 0 && (size === 0 || size % 4 !== 0 || size > bytes.length - 4)) {
      throw new UserError(
        `${where} has damaged normalisation rules: a trie of ${size} bytes in ${bytes.length}`,
        "get the tokenizer folder again",
      );
    }
    this.#units = new Uint32Array(new Uint8Array(bytes.subarray(4, 4 + size)).buffer);
    this.#strings = bytes.subarray(4 + size);
  }

  /**
   * Replaces by the rules, in the manner of the Hugging Face "fast" tokenizers: a grapheme cluster of at most 5 bytes
   * that begins with a rule is replaced as a whole by the **shortest** such rule, so a further accent in it disappears;
   * in longer clusters every character is looked up on its own. (SentencePiece itself takes the longest rule at every
   * position, whatever the clusters.)
   */
  normalize(text: string): string {
    if (this.#units.length === 0) return text;
    let out = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = utf8Length(segment) < 6 ? this.#replacement(segment) : undefined;
      if (whole !== undefined) out += whole;
      else for (const character of segment) out += this.#replacement(character) ?? character;
    }
    return out;
  }

  /** What the shortest rule that `text` begins with puts in its place; undefined without a rule. */
  #replacement(text: string): string | undefined {
    const units = this.#units;
    let node = offsetOf(units[0]!);
    for (const byte of encoder.encode(text)) {
      node ^= byte;
      // Nodes outside the array, which only a damaged file has, read as a unit without children.
      const unit = units[node] ?? 0;
      if (((unit & 0x800000ff) >>> 0) !== byte) return undefined;
      node ^= offsetOf(unit);
      // Bit 8: the bytes so far are a rule, whose string begins at the value of the node reached.
      if (unit & 0x100) return this.#string((units[node] ?? 0) & 0x7fffffff);
    }
    return undefined;
  }

  #string(start: number): string {
    const end = this.#strings.indexOf(0, start);
    return decoder.decode(this.#strings.subarray(start, end < 0 ? undefined : end));
  }
}

/** Where the children of a unit lie, relative to it: bits 10 to 30, times 256 when bit 9 is set. */
function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

function utf8Length(text: string): number {
  return text.length > 5 ? text.length : encoder.encode(text).length;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });
