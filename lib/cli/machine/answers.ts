/** What a person, or a program in place of one, answers on standard input. */
import process from "node:process";
import { createInterface, type Interface } from "node:readline";

/** Asks standard input for lines, one at a time; undefined once it has ended. */
export function processAnswers(): () => Promise<string | undefined> {
  let lines: AsyncIterator<string> | undefined;
  return async () => {
    lines ??= (createInterface({ input: process.stdin }) as Interface)[Symbol.asyncIterator]();
    const { done, value } = await lines.next();
    return done ? undefined : value;
  };
}
