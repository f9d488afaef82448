/** Where output goes. */
import process from "node:process";

/** Standard output and standard error, and whether a person is watching. */
export interface Terminal {
  /** Writes results; the text brings its own line breaks. */
  write(text: string): void;
  /** Writes notes and errors. */
  writeError(text: string): void;
  /** Width of the window, or undefined when the output goes to a file or a pipe. */
  readonly columns: number | undefined;
}

/** The terminal of this process. */
export function processTerminal(): Terminal {
  return {
    write: (text) => void process.stdout.write(text),
    writeError: (text) => void process.stderr.write(text),
    get columns() {
      return process.stdout.isTTY ? process.stdout.columns : undefined;
    },
  };
}
