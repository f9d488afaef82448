import { UserError } from "../errors.ts";

/** Deeper nesting has no use in the files read here and would let a hostile file exhaust the stack. */
const maxDepth = 32;

/**
 * A strict JSON reader that hands out one value at a time.
 *
 * `JSON.parse` hides what a trustworthy header check must see: it keeps the last of duplicate keys, rounds integers above
 * 2^53, takes `4e0` for an integer and nests without limit. Each method consumes one value, with the blanks around it,
 * and throws a `UserError` naming the byte position otherwise.
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
  object(what: string, member: (key: string) => void): void {
    const seen = new Set<string>();
    this.#list("{", "}", what, () => {
      const key = this.string(`a key of ${what}`);
      if (seen.has(key)) this.fail(`duplicate key ${JSON.stringify(key)} in ${what}`);
      seen.add(key);
      this.#expect(":", what);
      member(key);
    });
  }

  /** An array: `element` must consume one value. */
  array(what: string, element: () => void): void {
    this.#list("[", "]", what, element);
  }

  /** A string without lone surrogates. */
  string(what: string): string {
    this.#blanks();
    const text = this.#text;
    if (text.charCodeAt(this.#at) !== 0x22) this.#unexpected(`${what}, a string`);
    let end = this.#at + 1, plain = true;
    for (;; end++) {
      const c = text.charCodeAt(end);
      if (c === 0x22) break;
      if (Number.isNaN(c)) this.fail(`${what} is a string without an end`);
      if (c < 0x20) this.fail(`control character in ${what}`);
      if (c === 0x5c) {
        plain = false;
        end++;
      }
    }
    const token = text.slice(this.#at, end + 1);
    this.#at = end + 1;
    const value = plain ? token.slice(1, -1) : this.#unescape(token, what);
    if (!value.isWellFormed()) this.fail(`half of a surrogate pair in ${what}`);
    return value;
  }

  /** A non-negative integer, judged by its spelling (no sign, fraction or exponent), that a double holds exactly. */
  integer(what: string): number {
    const token = this.#token();
    if (!/^(0|[1-9][0-9]*)$/.test(token)) this.#unexpected(`${what}, an integer from 0 up`, token);
    const value = Number(token);
    if (!Number.isSafeInteger(value)) this.fail(`${what} is ${token}, above 2^53 - 1`);
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
  skip(what: string): void {
    const kind = this.peek();
    if (kind === "object") this.object(what, () => this.skip(what));
    else if (kind === "array") this.array(what, () => this.skip(what));
    else if (kind === "string") this.string(what);
    else {
      const token = this.#token();
      if (!/^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)$/.test(token)) {
        this.#unexpected(`${what}, a JSON value`, token);
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
    throw new UserError(`${this.#where}: ${problem} (at byte ${position} of the JSON text)`);
  }

  #list(open: string, close: string, what: string, item: () => void): void {
    this.#expect(open, what);
    if (++this.#depth > maxDepth) this.fail(`more than ${maxDepth} levels of nesting`);
    this.#blanks();
    if (this.#text[this.#at] === close) this.#at++;
    else {
      for (;;) {
        item();
        this.#blanks();
        const c = this.#text[this.#at];
        if (c !== "," && c !== close) this.#unexpected(`"," or "${close}" in ${what}`);
        this.#at++;
        if (c === close) break;
      }
    }
    this.#depth--;
  }

  #expect(character: string, what: string): void {
    this.#blanks();
    if (this.#text[this.#at] !== character) this.#unexpected(`"${character}" of ${what}`);
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

  #unescape(token: string, what: string): string {
    try {
      return JSON.parse(token);
    } catch {
      return this.fail(`bad escape in ${what}`);
    }
  }

  #unexpected(expected: string, found?: string): never {
    const rest = found ?? this.#text.slice(this.#at, this.#at + 12);
    this.fail(`expected ${expected}, found ${rest === "" ? "the end of the text" : JSON.stringify(rest)}`);
  }
}
