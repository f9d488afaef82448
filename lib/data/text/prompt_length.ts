/** Prompts of which the text encoder reads the beginning only. */
import type { Tokenizer } from "./tokenizer.ts";

/** Letters of a prompt's unread end that a note shows. */
const SHOWN_LETTERS = 60;

/** Tokens of a prompt, the end token included; without a tokenizer its words and the end, which are not more. */
export function countTokens(prompt: string, length: number, tokenizer: Tokenizer | undefined): number {
  return 1 + (tokenizer?.fit(prompt, length).tokens ?? [...prompt.matchAll(/\S+/g)].length);
}

/**
 * A note for each prompt that has more than `length` tokens, the end token included. Without a tokenizer its words are
 * counted, each of which is at least one token.
 */
export function promptLengthNotes(
  items: readonly { readonly name: string; readonly prompt: string }[],
  length: number,
  tokenizer: Tokenizer | undefined,
): string[] {
  const note = (name: string, count: string, cutOff: string) => {
    const shown = cutOff.length > SHOWN_LETTERS ? `${cutOff.slice(0, SHOWN_LETTERS)}...` : cutOff;
    return `${name}: the prompt has ${count} tokens, of which ${length} are read; cut off: ${JSON.stringify(shown)}`;
  };
  return items.flatMap(({ name, prompt }) => {
    if (tokenizer === undefined) {
      const words = [...prompt.matchAll(/\S+/g)];
      const first = words[length - 1];
      return first === undefined ? [] : [note(name, `at least ${words.length + 1}`, prompt.slice(first.index))];
    }
    const { tokens, cutOff } = tokenizer.fit(prompt, length);
    return cutOff === "" ? [] : [note(name, `${tokens + 1}`, cutOff)];
  });
}
