/** One flag of a help text. */
import type { OwnFlag } from "../settings/own_flags.ts";
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

/** Flags that are not the framework's. */
export function ownFlagLines(flags: readonly OwnFlag[]): string[] {
  return flags.flatMap(({ name, takes, brief }) => flagLines(takes === undefined ? name : `${name} ${takes}`, brief));
}

/** A flag as the command-line framework reads it. */
interface ReadFlag {
  readonly brief: string;
  readonly kind: string;
  readonly placeholder?: string;
  readonly values?: readonly string[];
  readonly default?: unknown;
}

/** Flags under the titles of their groups; every flag is in one. */
export function groupedFlags(
  groups: Readonly<Record<string, readonly string[]>>,
  flags: Readonly<Record<string, ReadFlag>>,
): string[] {
  return Object.entries(groups).flatMap(([title, names]) => [
    "",
    title.toUpperCase(),
    ...names.flatMap((name) => {
      const { brief, kind, placeholder, values, default: value } = flags[name]!;
      const takes = kind === "boolean" ? "" : ` ${placeholder ?? values?.join("|") ?? "VALUE"}`;
      const given = value === undefined || value === "" || value === false ? "" : ` (default ${value})`;
      return flagLines(`${name}${takes}`, `${brief}${given}`);
    }),
  ]);
}
