/** Every mistake that a user is told of comes with what to do about it. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "./paths.ts";

const lib = fromFileUrl("../lib", import.meta.url);

/**
 * Files whose mistakes are told by others: as entries of a list with a remedy of its own (clips, the files of a checkpoint and
 * of a model), or not at all (a cache entry that is made anew).
 */
const TOLD_BY_OTHERS = /^(data\/video|data\/cache|io\/safetensors)\/|^io\/commit_folder\.ts$/;

/** Number of arguments of the call whose parenthesis opens in front of `at`. */
function argumentsAt(text: string, at: number): number {
  let depth = 1, commas = 0, last = at;
  /** Templates that are interrupted by an expression, by the depth at which it ends. */
  const templates: number[] = [];
  let quote = "";
  for (; depth > 0; at++) {
    const character = text[at]!;
    if (quote !== "") {
      if (character === "\\") at++;
      else if (quote === "`" && text.startsWith("${", at)) {
        templates.push(depth++);
        quote = "";
        at++;
      } else if (character === quote) quote = "";
    } else if ("\"'`".includes(character)) quote = character;
    else if ("([{".includes(character)) depth++;
    else if (")]}".includes(character)) {
      depth--;
      if (character === "}" && templates.at(-1) === depth) {
        templates.pop();
        quote = "`";
      }
    } else if (character === "," && depth === 1) {
      commas++;
      last = at + 1;
    }
  }
  // A comma may stand behind the last one.
  return commas + (text.slice(last, at - 1).trim() === "" ? 0 : 1);
}

Deno.test("arguments are counted through strings, templates and calls", () => {
  const cases: [string, number][] = [["f(a)", 1], ["f(a, b)", 2], ["f(`${g(1, 2)},`, b,)", 2], [
    "f('),', [1, 2], c)",
    3,
  ]];
  for (const [text, count] of cases) assert.equal(argumentsAt(text, 2), count, text);
});

Deno.test("every UserError has a hint", () => {
  const without: string[] = [];
  let all = 0;
  for (const name of readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))) {
    if (TOLD_BY_OTHERS.test(name) || name === "errors.ts") continue;
    const text = readFileSync(join(lib, name), "utf8");
    for (const call of text.matchAll(/new UserError(s?)\(/g)) {
      all++;
      const line = text.slice(0, call.index).split("\n").length;
      const needed = call[1] === "s" ? 3 : 2;
      if (argumentsAt(text, call.index + call[0].length) < needed) without.push(`${name}:${line}`);
    }
  }
  assert.ok(all > 150, `${all} places`);
  assert.deepEqual(without, []);
});
