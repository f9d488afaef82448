/** Completion scripts in the shells themselves, where these are installed; bash always is. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { properties } from "../../../lib/config/schema.ts";
import { presetNames } from "../../../lib/config/presets.ts";
import { inScratch } from "../../train/runs.ts";
import { cli } from "../fakes.ts";

/** What a shell prints; undefined when it is not installed. */
async function shell(name: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(name, { args }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Command lines up to the cursor, and some and all of what can stand there. */
const CASES: readonly [words: string, some: readonly string[], all?: readonly string[]][] = [
  ["", ["train", "plan", "data", "lora", "explain"]],
  ["pl", ["plan"], ["plan"]],
  ["data ", ["check", "import"], ["check", "import"]],
  ["lora in", ["inspect"], ["inspect"]],
  ["train --preset ", presetNames, presetNames],
  ["--preset 5b-l", ["5b-lora"], ["5b-lora"]],
  ["plan --fi", ["--fit"], ["--fit"]],
  ["train --", Object.keys(properties).map((key) => `--${key}`)],
  ["plan --quiet --mixed_precision ", ["no", "fp16", "bf16"], ["no", "fp16", "bf16"]],
  ["data check --frame_selection s", ["stride"], ["stride"]],
  ["sample --sampler ", ["dpm", "ddim"], ["dpm", "ddim"]],
  ["lora merge x --str", ["--strength"], ["--strength"]],
  ["explain lora_al", ["lora_alpha"], ["lora_alpha"]],
  ["completions f", ["fish"], ["fish"]],
];

function assertCompletes(name: string, words: string, found: readonly string[]): void {
  const [, some, all] = CASES.find(([each]) => each === words)!;
  for (const word of some) assert.ok(found.includes(word), `${name}, "${words}": ${word} in ${found.join(" ")}`);
  if (all !== undefined) assert.deepEqual([...found].sort(), [...all].sort(), `${name}, "${words}"`);
}

async function writeScript(folder: string, name: string): Promise<string> {
  const { code, out } = await cli(["completions", name]);
  assert.equal(code, 0);
  const path = join(folder, `_cogtune.${name}`);
  writeFileSync(path, out);
  return path;
}

Deno.test("bash completes commands, their flags and values", () =>
  inScratch(async (folder) => {
    const script = await writeScript(folder, "bash");
    const calls = CASES.map(([words]) => {
      const all = ["cogtune", ...words.split(" ")];
      return `COMP_WORDS=(${all.map((word) => `"${word}"`).join(" ")}); COMP_CWORD=${all.length - 1}; COMPREPLY=(); ` +
        `_cogtune; echo "\${COMPREPLY[*]}"`;
    });
    const printed = (await shell("bash", "-c", `source ${script}; ${calls.join("; ")}`))!;
    for (const [i, line] of printed.split("\n").entries()) assertCompletes("bash", CASES[i]![0], line.split(" "));
  }));

Deno.test("fish completes the same", () =>
  inScratch(async (folder) => {
    const script = await writeScript(folder, "fish");
    const calls = CASES.map(([words]) => `complete -C "cogtune ${words}" | string join "|"; echo`);
    const printed = await shell("fish", "--no-config", "-c", `source ${script}; ${calls.join("; ")}`);
    if (printed === undefined) return;
    const lines = printed.split("\n").filter((line) => line !== "");
    for (const [i, line] of lines.entries()) {
      assertCompletes("fish", CASES[i]![0], line.split("|").map((option) => option.split("\t")[0]!));
    }
  }));

Deno.test("zsh reads its script, which names what it completes", () =>
  inScratch(async (folder) => {
    const script = await writeScript(folder, "zsh");
    await shell("zsh", "-n", script);
    assert.match(Deno.readTextFileSync(script), /^#compdef cogtune\n# Completion of cogtune for zsh/);
  }));

Deno.test("a shell without completion is refused with those that have it", async () => {
  const { code, error } = await cli(["completions", "tcsh"]);
  assert.deepEqual([code, error], [
    2,
    'error: There is no completion for "tcsh"\nHint: there is for bash, zsh, fish\n',
  ]);
});
