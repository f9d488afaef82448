/** One flag of a help text. */
import { wrapText } from "../show/text.ts";

const WIDTH = 116;
const INDENT = 32;

/** The flag and what stands behind it, and what it does beside it, wrapped. */
export function flagLines(flag: string, description: string): string[] {
  const [first, ...more] = wrapText(description, WIDTH - INDENT);
  const name = `  --${flag}`;
  const head = name.length < INDENT - 1 ? [name.padEnd(INDENT) + first] : [name, " ".repeat(INDENT) + first];
  return [...head, ...more.map((line) => " ".repeat(INDENT) + line)];
}
