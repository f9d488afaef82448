/** Whether a tokenizer belongs to a text encoder: ids of another vocabulary are other words to it, and no error. */
import { UserError } from "../../errors.ts";
import { SENTINELS, type Tokenizer } from "./tokenizer.ts";

/** Rows and columns of the table in which a text encoder looks ids up. */
export interface VocabularyTable {
  readonly vocab_size: number;
  readonly d_model: number;
}

/**
 * The table of T5 v1.1 XXL, which every released CogVideoX has. Smaller encoders, as in tests, may have any vocabulary.
 */
const KNOWN_TABLE: VocabularyTable = { vocab_size: 32128, d_model: 4096 };

/** The example with which the transformers library documents T5, and its ids there. */
const KNOWN_TEXT = "translate English to German: The house is wonderful.";
const KNOWN_IDS = [13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5];

/**
 * Makes sure that the ids of a tokenizer are those that the text encoder was trained with, as far as that is known.
 *
 * @param folder folder of the model, for messages.
 * @throws {UserError} when it has more pieces than the encoder has rows, or other ids than T5 for a known text.
 */
export function requireVocabulary(tokenizer: Tokenizer, table: VocabularyTable, folder: string): void {
  const hint = "take tokenizer and text_encoder from one model, or get the tokenizer folder again";
  const pieces = tokenizer.vocabularySize - SENTINELS;
  if (pieces > table.vocab_size) {
    throw new UserError(
      `The tokenizer of "${folder}" has ${pieces} pieces, its text_encoder knows ${table.vocab_size}: they are parts of ` +
        "different models",
      hint,
    );
  }
  if (table.vocab_size !== KNOWN_TABLE.vocab_size || table.d_model !== KNOWN_TABLE.d_model) return;
  const found = tokenizer.tokenize(KNOWN_TEXT);
  if (`${found}` === `${KNOWN_IDS}`) return;
  throw new UserError(
    `The tokenizer of "${folder}" makes ${found} of "${KNOWN_TEXT}", expected ${KNOWN_IDS}: it is damaged, or not that of T5`,
    hint,
  );
}
