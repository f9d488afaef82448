/** Where output goes. */
import process from "node:process";
import { INVISIBLE } from "../../invisible.ts";
import { cutToCells } from "../show/fit_line.ts";

/** Standard output and standard error, and whether a person is watching. */
export interface Terminal {
  /** Writes results; the text brings its own line breaks. */
  write(text: string): void;
  /** Writes what goes on: of interest while it happens, and left out by `--quiet`. */
  status(text: string): void;
  /** Writes a value as a line of JSON, for programs. */
  json(value: unknown): void;
  /** Writes notes and errors. */
  writeError(text: string): void;
  /** Puts as much of a line as fits in place of the one in which the cursor stands, when a person is watching. */
  redraw(line: string): void;
  /** Width of the window, or undefined when the output goes to a file or a pipe. */
  readonly columns: number | undefined;
}

/** Where a terminal's text goes. */
export interface Output {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly columns: () => number | undefined;
}

/**
 * Text in which a terminal finds nothing to obey: names of files, prompts and words of other programs may hold
 * anything.
 */
function visible(text: string): string {
  return text.replace(INVISIBLE, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** The same characters in a text of JSON, which has its own way to write them. */
function visibleJson(text: string): string {
  return text.replace(INVISIBLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A terminal that shows control characters as what they are. */
export function createTerminal({ out, error, columns }: Output): Terminal {
  return {
    write: (text) => out(visible(text)),
    status: (text) => out(visible(text)),
    json: (value) => out(`${visibleJson(JSON.stringify(value))}\n`),
    writeError: (text) => error(visible(text)),
    redraw(line) {
      const width = columns();
      // The last column stays free: some terminals wrap when it is filled. \x1b[K clears what a longer line left
      // behind.
      if (width !== undefined) out(`\r${cutToCells(visible(line), width - 1)}\x1b[K`);
    },
    get columns() {
      return columns();
    },
  };
}

/** The same terminal without what goes on: results, notes and errors alone. */
export function quietTerminal(terminal: Terminal): Terminal {
  const silent = () => {};
  const { write, writeError, json } = terminal;
  return { write, writeError, json, status: silent, redraw: silent, columns: undefined };
}

/**
 * Lets this process outlive the readers of its output, such as a program behind a pipe (EPIPE) or a terminal that is
 * closed (EIO): what comes after is lost, which must not end a run of hours.
 */
export function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: Error & { readonly code?: string }) => {
      if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
    });
  }
}

/** The terminal of this process. */
export function processTerminal(): Terminal {
  return createTerminal({
    out: (text) => void process.stdout.write(text),
    error: (text) => void process.stderr.write(text),
    columns: () => process.stdout.isTTY ? process.stdout.columns : undefined,
  });
}
