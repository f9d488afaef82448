/**
 * Slow suites that may be stopped at any moment: every result is a line of a small file, and the next start goes on after the
 * last. Remove the folder to begin again; COGTUNE_RESULTS names another one.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";

/** Where results lie. */
export const resultsFolder: string = Deno.env.get("COGTUNE_RESULTS") ?? fromFileUrl("../../.results", import.meta.url);

/** Results of one suite, this start's and earlier ones'. */
export class Results<T> {
  readonly #path: string;
  readonly all: T[] = [];

  constructor(name: string) {
    mkdirSync(resultsFolder, { recursive: true });
    this.#path = join(resultsFolder, `${name}.jsonl`);
    const text = existsSync(this.#path) ? readFileSync(this.#path, "utf8") : "";
    // What follows the last line break was being written when the suite was stopped.
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    if (whole !== text) writeFileSync(this.#path, whole);
    for (const line of whole.split("\n").slice(0, -1)) this.all.push(JSON.parse(line));
  }

  add(result: T): void {
    appendFileSync(this.#path, `${JSON.stringify(result)}\n`);
    this.all.push(result);
  }
}
