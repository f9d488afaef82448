/** Reads YAML files and command-line values into entries that remember where each value stands. */
import { dirname, resolve } from "node:path";
import { isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";
import type { Node } from "yaml";

/** One value of a config, before it is checked. */
export interface Entry {
  readonly value: unknown;
  /** Place of the value for messages: `file:line:column`, or the flag. */
  readonly where: string;
  /** Place of the key. */
  readonly keyWhere: string;
  /** Places of the items when the value is a list. */
  readonly items: readonly string[];
  /** Folder that a relative path in `value` is relative to. */
  readonly folder: string;
  /** True when the value is text from the command line that still has to become a number, a boolean or a list. */
  readonly text: boolean;
}

/** A key with its place in front, for messages; a flag is its own place. */
export function placeOf(key: string, where: string | undefined): string {
  return where === undefined ? key : where === `--${key}` ? where : `${where} ${key}`;
}

/** What a file or a command line says, and what is wrong with it. */
export interface Source {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly problems: readonly string[];
}

/**
 * A config has some ninety short lines; anything near this size is another file, or hostile: 500 KB of opening brackets
 * cost 1.5 s of a core, and to look for the name that an unknown key may stand for costs 0.2 ms. Within both limits
 * every text tried is decided in 0.1 s.
 */
const MAX_BYTES = 2 ** 14;
const MAX_KEYS = 300;

/** Reads a flat YAML mapping. Aliases, tags and duplicate keys are problems, as are all syntax errors. */
export function readYaml(text: string, fileName: string): Source {
  if (text.length > MAX_BYTES) {
    return { entries: new Map(), problems: [`${fileName}: ${text.length} bytes is too long for a config`] };
  }
  const lines = new LineCounter();
  const place = (offset: number | undefined): string => {
    const { line, col } = lines.linePos(offset ?? 0);
    return `${fileName}:${line}:${col}`;
  };
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  // The parser recurses per nesting level, runs out of stack on hostile nesting, and then finds errors without number.
  if (document.errors.some(({ message }) => message.includes("call stack"))) {
    return { entries: new Map(), problems: [`${fileName}: nested too deeply for a config`] };
  }
  const problems = [...document.errors, ...document.warnings].map((error) => `${place(error.pos[0])} ${error.message}`);
  // Expanding an alias can multiply a short text to gigabytes, and a flat config has no use for one.
  visit(document, { Alias: (_, node) => void problems.push(`${place(node.range?.[0])} aliases are not allowed`) });
  if (problems.length > 0) return { entries: new Map(), problems };
  return readMapping(document.contents, fileName, place);
}

function readMapping(contents: Node | null, fileName: string, place: (offset?: number) => string): Source {
  const entries = new Map<string, Entry>();
  const problems: string[] = [];
  if (contents === null || (isScalar(contents) && contents.value === null)) return { entries, problems };
  if (!isMap(contents)) {
    return { entries, problems: [`${place(contents.range?.[0])} expected lines of the form "key: value"`] };
  }
  if (contents.items.length > MAX_KEYS) {
    return { entries, problems: [`${fileName}: ${contents.items.length} keys are too many for a config`] };
  }
  const folder = dirname(resolve(fileName));
  for (const { key, value } of contents.items) {
    const node = value as Node | null;
    const where = place((node ?? key as Node).range?.[0]);
    const keyWhere = place((key as Node).range?.[0]);
    if (!isScalar(key) || typeof key.value !== "string") {
      problems.push(`${keyWhere} expected a key that is plain text`);
    } else if (isMap(node)) {
      problems.push(`${where} ${key.value}: expected a value, found a mapping; all keys stand at the left margin`);
    } else if (isSeq(node)) {
      const items = node.items as Node[];
      const value = items.map((item) => isScalar(item) ? item.value : undefined);
      entries.set(key.value, {
        value,
        where,
        keyWhere,
        items: items.map((item) => place(item.range?.[0])),
        folder,
        text: false,
      });
    } else {
      entries.set(key.value, {
        value: isScalar(node) ? node.value : null,
        where,
        keyWhere,
        items: [],
        folder,
        text: false,
      });
    }
  }
  return { entries, problems };
}

/**
 * Reads command-line or programmatic values: text is parsed by the kind of its key, other values are taken as they are.
 */
export function readOverrides(overrides: Readonly<Record<string, unknown>>): Source {
  const folder = resolve(".");
  const entries = Object.entries(overrides).map(([key, value]): [string, Entry] => [
    key,
    { value, where: `--${key}`, keyWhere: `--${key}`, items: [], folder, text: typeof value === "string" },
  ]);
  return { entries: new Map(entries), problems: [] };
}
