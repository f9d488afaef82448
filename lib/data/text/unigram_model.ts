/** Reads SentencePiece model files, which are protocol-buffers messages. */
import { UserError } from "../../errors.ts";

/** Kinds of pieces in a SentencePiece model. */
export const pieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** One vocabulary entry. */
export interface Piece {
  /** Its spelling, U+2581 where a word begins. */
  readonly text: string;
  /** Logarithm of its probability, float32. */
  readonly score: number;
  /** One of {@linkcode pieceType}. */
  readonly type: number;
}

/** The parts of a SentencePiece model file that encoding needs. */
export interface UnigramModel {
  /** By id. */
  readonly pieces: readonly Piece[];
  /** Compiled normalisation rules, see `Charsmap`; empty when the model has none. */
  readonly charsmap: Uint8Array;
}

/**
 * Reads a SentencePiece `.model` file, which is a protocol-buffers message.
 *
 * @param where the file, for messages.
 * @throws {UserError} when the bytes are damaged or describe another kind of model.
 */
export function parseUnigramModel(bytes: Uint8Array, where: string): UnigramModel {
  const pieces: Piece[] = [];
  let charsmap: Uint8Array | undefined;
  try {
    // ModelProto: 1 = pieces, 2 = trainer settings, 3 = normaliser settings.
    for (const { field, value } of fields(bytes)) {
      if (field === 1) pieces.push(parsePiece(message(value)));
      else if (field === 2) checkTrainer(message(value));
      // NormalizerSpec: 2 = precompiled_charsmap.
      else if (field === 3) charsmap = lastField(message(value), 2) ?? new Uint8Array();
    }
    if (pieces.length === 0) throw new RangeError("it holds no pieces");
    // It follows the pieces, so a file cut between two pieces lacks it.
    if (charsmap === undefined) throw new RangeError("it holds no normaliser settings");
    return { pieces, charsmap };
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    throw new UserError(
      `${where} is not a SentencePiece unigram model: ${error.message}`,
      "the file is damaged or of another kind: get the tokenizer folder again",
    );
  }
}

/** SentencePiece: 1 = text, 2 = score, 3 = type. */
function parsePiece(bytes: Uint8Array): Piece {
  const piece: { -readonly [Field in keyof Piece]: Piece[Field] } = { text: "", score: 0, type: pieceType.normal };
  for (const { field, value } of fields(bytes)) {
    if (field === 1) piece.text = utf8.decode(message(value));
    else if (field === 2) piece.score = float(value);
    else if (field === 3) piece.type = Number(value);
  }
  if (piece.text === "") throw new RangeError("a piece has no text");
  if (!Number.isFinite(piece.score)) throw new RangeError(`piece ${JSON.stringify(piece.text)} has no finite score`);
  return piece;
}

/** TrainerSpec: 3 = model_type, of which 1 is unigram, the default. */
function checkTrainer(bytes: Uint8Array): void {
  for (const { field, value } of fields(bytes)) {
    if (field === 3 && value !== 1) throw new RangeError(`its model type is ${value}, expected 1 (unigram)`);
  }
}

function lastField(bytes: Uint8Array, wanted: number): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  for (const { field, value } of fields(bytes)) if (field === wanted) found = message(value);
  return found;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The fields of a message: numbers for varints, bytes for everything else. */
function* fields(bytes: Uint8Array): Generator<{ field: number; value: number | Uint8Array }> {
  let at = 0;
  function varint(): number {
    let value = 0;
    // Ten groups of seven bits hold the longest varint, a negative 64-bit number.
    for (let i = 0, scale = 1; i < 10; i++, scale *= 128) {
      if (at >= bytes.length) throw new RangeError(`it ends inside a number, at byte ${at} of a message`);
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new RangeError(`a number has no end, at byte ${at} of a message`);
  }
  while (at < bytes.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    const wire = key % 8;
    if (field === 0) throw new RangeError("a field has number 0");
    if (wire === 0) {
      yield { field, value: varint() };
      continue;
    }
    const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : NaN;
    if (!(at + length <= bytes.length)) {
      throw new RangeError(
        Number.isNaN(length) ? `field ${field} has unknown wire type ${wire}` : `it ends inside field ${field}`,
      );
    }
    yield { field, value: bytes.subarray(at, at + length) };
    at += length;
  }
}

function message(value: number | Uint8Array): Uint8Array {
  if (typeof value === "number") throw new RangeError("a number stands where bytes are expected");
  return value;
}

function float(value: number | Uint8Array): number {
  const bytes = message(value);
  if (bytes.length !== 4) throw new RangeError(`a score has ${bytes.length} bytes, expected 4`);
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
}
