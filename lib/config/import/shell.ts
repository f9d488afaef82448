/**
 * Reads the flags that a shell script gives to a training program, without running anything: quotes, comments,
 * continued lines, variables, arrays and `eval` are followed; conditions are not, and of several calls of a program the
 * last one counts.
 */

/** A call of a program as it is written. */
export interface ProgramCall {
  /** The program, as `train.py`; "" for flags alone. */
  readonly program: string;
  /** Values by flag, with underscores; none for a switch. The last of equal flags counts. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  /** The same of what starts the program, as `accelerate launch`. */
  readonly launcher: ReadonlyMap<string, readonly string[]>;
}

/** More than any training script has; a file beyond it is something else. */
const MAX_CHARACTERS = 1 << 18;

/** What a variable stands for: words, of which a plain one is a single one. */
type Variables = Map<string, readonly string[]>;

const NAME = /^[A-Za-z_]\w*/;

/** Reads a script word by word. */
class Reader {
  #at = 0;
  /** Commands without assignments and comments. */
  readonly commands: string[][] = [];

  constructor(readonly text: string, readonly variables: Variables) {}

  read(): string[][] {
    while (this.#at < this.text.length) this.#command();
    return this.commands;
  }

  /** One command, up to the end of its line or an operator. */
  #command(): void {
    const words: string[] = [];
    while (this.#at < this.text.length) {
      this.#skipBlanks();
      const char = this.text[this.#at];
      if (char === undefined) break;
      if ("\n;&|".includes(char)) {
        this.#at++;
        break;
      }
      if (char === "(" || char === ")") {
        this.#at++;
        continue;
      }
      const assigned = /^([A-Za-z_]\w*)\+?=/.exec(this.text.slice(this.#at, this.#at + 200));
      if (assigned !== null && words.every((word) => word === "export")) this.#assign(assigned[1]!, assigned[0].length);
      else words.push(...this.#word());
    }
    if (words[0] === "eval") {
      words.push(...new Reader(words.splice(0).slice(1).join(" "), this.variables).read().flat());
    }
    if (words.length > 0) this.commands.push(words);
  }

  #assign(name: string, length: number): void {
    const before = this.text[this.#at + length - 2] === "+" ? this.variables.get(name) ?? [] : [];
    this.#at += length;
    if (this.text[this.#at] !== "(") {
      const value = /[\s;]/.test(this.text[this.#at] ?? "\n") ? "" : this.#word(true).join(" ");
      this.variables.set(name, [before.join(" ") + value]);
      return;
    }
    this.#at++;
    const words: string[] = [...before];
    while (this.#at < this.text.length) {
      this.#skipBlanks();
      const char = this.text[this.#at];
      if (char === ")") {
        this.#at++;
        break;
      }
      if (/[\n;&|(]/.test(char ?? "\n")) this.#at++;
      else words.push(...this.#word());
    }
    this.variables.set(name, words);
  }

  /** White space within a line, continued lines and a comment. */
  #skipBlanks(): void {
    const blank = /^(?:[^\S\n]|\\\r?\n)+/.exec(this.text.slice(this.#at));
    this.#at += blank?.[0].length ?? 0;
    if (this.text[this.#at] !== "#") return;
    const end = this.text.indexOf("\n", this.#at);
    this.#at = end < 0 ? this.text.length : end;
  }

  /** The words that one written word becomes: several or none where a variable outside quotes holds them. */
  #word(whole = false): string[] {
    const words: string[] = [""];
    let isQuoted = false;
    const add = (text: string) => words.push(words.pop()! + text);
    while (this.#at < this.text.length) {
      const char = this.text[this.#at]!;
      if (/[\s;&|()]/.test(char)) break;
      this.#at++;
      if (char === "\\") add(this.text[this.#at++] ?? "");
      else if (char === "'") {
        isQuoted = true;
        const end = this.text.indexOf("'", this.#at);
        add(this.text.slice(this.#at, end < 0 ? undefined : end));
        this.#at = end < 0 ? this.text.length : end + 1;
      } else if (char === '"') {
        isQuoted = true;
        this.#quoted(words);
      } else if (char === "$") {
        const value = this.#variable();
        const parts = whole
          ? [value.join(" ")]
          : value.flatMap((text) => text.split(/\s+/)).filter((text) => text !== "");
        parts.forEach((part, i) => i === 0 ? add(part) : words.push(part));
      } else add(char);
    }
    return isQuoted || whole ? words : words.filter((word) => word !== "");
  }

  /** What stands between double quotes; an array in it keeps its words apart. */
  #quoted(words: string[]): void {
    while (this.#at < this.text.length) {
      const char = this.text[this.#at++]!;
      if (char === '"') return;
      if (char === "\\" && /["\\$`\n]/.test(this.text[this.#at] ?? "")) {
        const escaped = this.text[this.#at++]!;
        if (escaped !== "\n") words.push(words.pop()! + escaped);
      } else if (char === "$") {
        const isArray = /^\{\w+\[@\]\}/.test(this.text.slice(this.#at, this.#at + 200));
        const value = this.#variable();
        const parts = isArray ? value : [value.join(" ")];
        parts.forEach((part, i) => words.push(i === 0 ? words.pop()! + part : part));
      } else words.push(words.pop()! + char);
    }
  }

  /** The value of the variable whose name follows a dollar sign; its text where it is none. */
  #variable(): readonly string[] {
    const rest = this.text.slice(this.#at, this.#at + 200);
    const braced = /^\{(\w+)(?:\[[@*]\])?(?::?-([^}]*))?\}/.exec(rest);
    const [matched, name, otherwise] = braced ?? [NAME.exec(rest)?.[0], NAME.exec(rest)?.[0]];
    if (matched === undefined || name === undefined) return ["$"];
    this.#at += matched.length;
    return this.variables.get(name) ?? [otherwise ?? `$${matched}`];
  }
}

const FLAG = /^--([A-Za-z][\w-]*)(?:=([^]*))?$/;

/** Words as flags with their values. */
function flagsOf(words: readonly string[]): Map<string, readonly string[]> {
  const flags = new Map<string, readonly string[]>();
  for (let at = 0; at < words.length; at++) {
    const flag = FLAG.exec(words[at]!);
    if (flag === null) continue;
    const values = flag[2] === undefined ? [] : [flag[2]];
    while (flag[2] === undefined && words[at + 1] !== undefined && !FLAG.test(words[at + 1]!)) {
      values.push(words[++at]!);
    }
    flags.set(flag[1]!.replaceAll("-", "_"), values);
  }
  return flags;
}

/** The call of a program in a script or command line; undefined when nothing in it has flags. */
export function readProgramCall(text: string): ProgramCall | undefined {
  if (text.length > MAX_CHARACTERS) return undefined;
  const commands = new Reader(text, new Map()).read();
  const isProgram = (word: string) => /\.py$/.test(word);
  const words = commands.findLast((words) => words.some(isProgram) && words.some((word) => word.startsWith("--"))) ??
    commands.findLast((words) => words.some((word) => word.startsWith("--")));
  if (words === undefined) return undefined;
  const at = words.findIndex(isProgram);
  return {
    program: words[at] ?? "",
    launcher: flagsOf(words.slice(0, Math.max(0, at))),
    flags: flagsOf(words.slice(at + 1)),
  };
}
