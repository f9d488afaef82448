/** Strict reading of JSON from files that may be damaged or hostile. */
import { UserError } from "../errors.ts";

/** Deeper nesting has no use in the files read here and would let a hostile file exhaust the stack. */
const maxDepth = 32;

/** What helps against every fault found here: no program writes such files on purpose. */
const DAMAGED = "the file is damaged: get it again";

/** What a value is called in messages; a function where making the text for every value would cost time. */
export type Label = string | (() => string);

/**
 * A strict JSON reader that hands out one value at a time.
 *
 * `JSON.parse` hides what a trustworthy header check must see: it keeps the last of duplicate keys, rounds integers
 * above 2^53, takes `4e0` for an integer and nests without limit. Each method consumes one value, with the blanks
 * around it, and throws a `UserError` naming the byte position otherwise.
 */
export class JsonScanner {
  readonly #text: string;
  readonly #where: string;
  #at = 0;
  #depth = 0;

  /** `where` begins every error message: the file that holds `text`. */
  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
  }

  /** Kind of the next value, by its first character. */
  peek(): "object" | "array" | "string" | "other" {
    this.#blanks();
    const c = this.#text[this.#at];
    return c === "{" ? "object" : c === "[" ? "array" : c === '"' ? "string" : "other";
  }

  /** An object: `member` must consume the value that belongs to `key`. Duplicate keys are an error. */
  object(what: Label, member: (key: string) => void): void {
    const seen = new Keys();
    this.#list("{", "}", what, () => {
      const key = this.string(() => `a key of ${textOf(what)}`);
      if (!seen.add(key)) this.fail(`duplicate key ${JSON.stringify(key)} in ${textOf(what)}`);
      this.#expect(":", what);
      member(key);
    });
  }

  /** An array: `element` must consume one value. */
  array(what: Label, element: () => void): void {
    this.#list("[", "]", what, element);
  }

  /** A string without lone surrogates. */
  string(what: Label): string {
    this.#blanks();
    const text = this.#text;
    if (text.charCodeAt(this.#at) !== 0x22) this.#unexpected(`${textOf(what)}, a string`);
    let end = this.#at + 1;
    let plain = true;
    for (;; end++) {
      const c = text.charCodeAt(end);
      if (c === 0x22) break;
      if (Number.isNaN(c)) this.fail(`${textOf(what)} is a string without an end`);
      if (c < 0x20) this.fail(`control character in ${textOf(what)}`);
      if (c === 0x5c) {
        plain = false;
        end++;
      }
    }
    const token = text.slice(this.#at, end + 1);
    this.#at = end + 1;
    const value = plain ? token.slice(1, -1) : this.#unescape(token, what);
    if (!value.isWellFormed()) this.fail(`half of a surrogate pair in ${textOf(what)}`);
    return value;
  }

  /** A non-negative integer, judged by its spelling (no sign, fraction or exponent), that a double holds exactly. */
  integer(what: Label): number {
    this.#blanks();
    const text = this.#text;
    const start = this.#at;
    let value = 0;
    let end = start;
    for (;; end++) {
      const digit = text.charCodeAt(end) - 0x30;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
    }
    const leadingZero = text[start] === "0" && end > start + 1;
    if (end === start || leadingZero || !/[\s,\]}]/.test(text[end] ?? " ")) {
      this.#unexpected(`${textOf(what)}, an integer from 0 up`, this.#token());
    }
    // Up to 2^53 - 1 every partial sum is exact; beyond it the sum stays beyond it.
    if (!Number.isSafeInteger(value)) this.fail(`${textOf(what)} is ${this.#token()}, above 2^53 - 1`);
    this.#at = end;
    return value;
  }

  /** `null`, true when it was there; nothing is consumed otherwise. */
  nothing(): boolean {
    this.#blanks();
    if (!this.#text.startsWith("null", this.#at)) return false;
    this.#at += 4;
    return true;
  }

  /** Consumes any value, checked for syntax and for duplicate keys. */
  skip(what: Label): void {
    const kind = this.peek();
    if (kind === "object") this.object(what, () => this.skip(what));
    else if (kind === "array") this.array(what, () => this.skip(what));
    else if (kind === "string") this.string(what);
    else {
      const token = this.#token();
      if (!/^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)$/.test(token)) {
        this.#unexpected(`${textOf(what)}, a JSON value`, token);
      }
    }
  }

  /** Only blanks may be left. */
  end(): void {
    this.#blanks();
    if (this.#at < this.#text.length) this.#unexpected("the end of the JSON text");
  }

  /** Throws a `UserError` at the current position. */
  fail(problem: string): never {
    const position = new TextEncoder().encode(this.#text.slice(0, this.#at)).length;
    throw new UserError(`${this.#where}: ${problem} (at byte ${position} of the JSON text)`, DAMAGED);
  }

  #list(open: string, close: string, what: Label, item: () => void): void {
    this.#expect(open, what);
    if (++this.#depth > maxDepth) this.fail(`more than ${maxDepth} levels of nesting`);
    this.#blanks();
    if (this.#text[this.#at] === close) this.#at++;
    else {
      for (;;) {
        item();
        this.#blanks();
        const c = this.#text[this.#at];
        if (c !== "," && c !== close) this.#unexpected(`"," or "${close}" in ${textOf(what)}`);
        this.#at++;
        if (c === close) break;
      }
    }
    this.#depth--;
  }

  #expect(character: string, what: Label): void {
    this.#blanks();
    if (this.#text[this.#at] !== character) this.#unexpected(`"${character}" of ${textOf(what)}`);
    this.#at++;
  }

  #blanks(): void {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.#at++;
    }
  }

  /** The run of characters up to the next JSON punctuation, at most 64 of them: numbers and literals. */
  #token(): string {
    this.#blanks();
    let end = this.#at;
    while (end < this.#text.length && end - this.#at < 64 && !/[\s,:[\]{}"]/.test(this.#text[end]!)) end++;
    const token = this.#text.slice(this.#at, end);
    this.#at = end;
    return token;
  }

  #unescape(token: string, what: Label): string {
    try {
      return JSON.parse(token);
    } catch {
      return this.fail(`bad escape in ${textOf(what)}`);
    }
  }

  #unexpected(expected: string, found?: string): never {
    const rest = found ?? this.#text.slice(this.#at, this.#at + 12);
    this.fail(`expected ${expected}, found ${rest === "" ? "the end of the text" : JSON.stringify(rest)}`);
  }
}

function textOf(label: Label): string {
  return typeof label === "string" ? label : label();
}

/** Keys of one object. A million entries of three fields each would spend half their time in the making of sets. */
class Keys {
  #few: string[] = [];
  #many: Set<string> | undefined;

  /** False when `key` was there already. */
  add(key: string): boolean {
    if (this.#many?.has(key) || this.#few.includes(key)) return false;
    if (this.#few.length < 8) this.#few.push(key);
    else (this.#many ??= new Set()).add(key);
    return true;
  }
}
