/**
 * Reads the `tokenizer.json` of a T5 tokenizer, in which the tokenizers library keeps what `spiece.model` holds: the
 * pieces of the unigram model with their scores, and the normalisation rules.
 */
import { UserError, UserErrors } from "../../errors.ts";
import { type Piece, pieceType, type UnigramModel } from "./unigram_model.ts";

type Json = Readonly<Record<string, unknown>>;

/** Sentinels stand behind the pieces here; the tokenizer adds them by itself. */
const SENTINEL = /^<extra_id_\d+>$/;

/** Steps that the tokenizer takes whatever the file says: rules, blanks at the ends and in a row are no words. */
const NORMALISERS = ["Precompiled", "Strip", "Replace"];

/** Steps of splitting at white space and marking where words begin. */
const SPLITTERS = ["WhitespaceSplit", "Metaspace"];

/**
 * Reads the text of a `tokenizer.json`.
 *
 * @param where the file, for messages.
 * @throws {UserError} when it is no JSON object, {UserErrors} naming what of it is not a T5 tokenizer.
 */
export function parseTokenizerJson(text: string, where: string): UnigramModel {
  let file: Json;
  try {
    file = object(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(`${where} is not JSON: ${error.message}`, "get the tokenizer folder again");
  }
  const model = object(file.model);
  const problems: string[] = [];
  if (model.type !== "Unigram") problems.push(`model.type is ${JSON.stringify(model.type)}: expected "Unigram"`);
  if (model.byte_fallback === true) problems.push("model.byte_fallback is true: T5 has no pieces of bytes");
  const pieces = piecesOf(model, problems);
  const rules = steps(file.normalizer, "normalizers");
  problems.push(...unknownSteps("normalizer", rules, NORMALISERS));
  const replaced = rules.find(({ type, pattern }) => type === "Replace" && object(pattern).Regex !== " {2,}");
  if (replaced !== undefined) problems.push(`normalizer replaces ${JSON.stringify(replaced.pattern)}: expected blanks`);
  const splitters = steps(file.pre_tokenizer, "pretokenizers");
  problems.push(...unknownSteps("pre_tokenizer", splitters, SPLITTERS));
  const mark = splitters.find(({ type }) => type === "Metaspace");
  if (mark === undefined || mark.replacement !== "\u2581" || mark.add_prefix_space === false) {
    problems.push('pre_tokenizer has no Metaspace that marks every word with "\u2581"');
  } else if (mark.prepend_scheme !== undefined && mark.prepend_scheme !== "always") {
    problems.push(`pre_tokenizer.prepend_scheme is ${JSON.stringify(mark.prepend_scheme)}: expected "always"`);
  }
  const charsmap = rules.find(({ type }) => type === "Precompiled")?.precompiled_charsmap ?? "";
  if (problems.length > 0) {
    throw new UserErrors(
      `${where} is not a T5 tokenizer, the only kind that cogtune reads`,
      problems,
      "use the tokenizer folder of a CogVideoX model",
    );
  }
  return { pieces, charsmap: decodeBase64(charsmap, where) };
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Json : {};
}

function piecesOf({ vocab, unk_id }: Json, problems: string[]): Piece[] {
  const entries = Array.isArray(vocab) ? vocab as unknown[] : [];
  const pieces: Piece[] = [];
  for (const [id, entry] of entries.entries()) {
    const [text, score] = Array.isArray(entry) ? entry as unknown[] : [];
    if (typeof text !== "string" || text === "" || typeof score !== "number" || !Number.isFinite(score)) {
      problems.push(`model.vocab[${id}] is no piece with a score`);
      return pieces;
    }
    pieces.push({ text, score, type: id === unk_id ? pieceType.unknown : pieceType.normal });
  }
  while (SENTINEL.test(pieces.at(-1)?.text ?? "")) pieces.pop();
  if (pieces.length === 0) problems.push("model.vocab holds no pieces");
  return pieces;
}

/** A step, or the steps of a sequence of them. */
function steps(value: unknown, list: string): Json[] {
  const step = object(value);
  if (step.type === undefined) return [];
  return step.type === "Sequence" && Array.isArray(step[list]) ? step[list].map(object) : [step];
}

function unknownSteps(key: string, found: readonly Json[], known: readonly string[]): string[] {
  return found.filter(({ type }) => !known.includes(`${type}`))
    .map(({ type }) => `${key} has a step ${JSON.stringify(type)}: expected ${known.join(" or ")}`);
}

function decodeBase64(text: unknown, where: string): Uint8Array {
  try {
    return Uint8Array.fromBase64(text as string);
  } catch {
    throw new UserError(`${where}: precompiled_charsmap is not base64`, "get the tokenizer folder again");
  }
}
