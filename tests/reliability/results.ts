/**
 * Slow suites that may be stopped at any moment: every result is a line of a small file, and the next start goes on after the
 * last. Remove the folder to begin again; COGTUNE_RESULTS names another one.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";

const folder = Deno.env.get("COGTUNE_RESULTS") ?? fromFileUrl("../../.results", import.meta.url);

/** Results of one suite, this start's and earlier ones'. */
export class Results<T> {
  readonly #path: string;
  readonly all: T[] = [];

  constructor(name: string) {
    mkdirSync(folder, { recursive: true });
    this.#path = join(folder, `${name}.jsonl`);
    const text = existsSync(this.#path) ? readFileSync(this.#path, "utf8") : "";
    // What follows the last line break was being written when the suite was stopped.
    for (const line of text.split("\n").slice(0, -1)) this.all.push(JSON.parse(line));
  }

  add(result: T): void {
    appendFileSync(this.#path, `${JSON.stringify(result)}\n`);
    this.all.push(result);
  }
}
