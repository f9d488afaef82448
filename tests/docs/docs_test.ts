/** Documents tell the truth: every command is understood, cheap ones run, links lead somewhere, errors exist. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fromFileUrl } from "../paths.ts";
import { examples, inScratch } from "../train/runs.ts";
import { commandsOf, problemsOf, programWords, shellBlocks } from "./command_lines.ts";

const root = resolve(fromFileUrl("../..", import.meta.url));

const documents = [
  ...["README.md", "CONTRIBUTING.md"],
  ...readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
];

const textOf = (name: string) => readFileSync(join(root, name), "utf8");
const tasks = Object.keys(JSON.parse(textOf("deno.json")).tasks);

/** Programs of others that documents may name. */
const OTHERS = ["deno", "npx", "git", "cd", "mpirun", "apt-get", "tests/dawn/mesa26.sh"];

Deno.test("every command in the documents is understood", async () => {
  let count = 0;
  for (const name of documents) {
    for (const words of shellBlocks(textOf(name)).flatMap(({ text }) => commandsOf(text))) {
      const line = `${name}: ${words.join(" ")}`;
      const own = programWords(words);
      if (own !== undefined) {
        assert.deepEqual(await problemsOf(own), [], line);
        count++;
      } else {
        assert.ok(OTHERS.includes(words.find((word) => !word.includes("="))!), line);
        const task = words.indexOf("task");
        if (task > 0) assert.ok(tasks.includes(words[task + 1]!), line);
      }
    }
  }
  assert.ok(count > 30, `${count} commands`);
});

Deno.test("wrong commands would be found", async () => {
  assert.deepEqual(commandsOf('deno run -A mod.ts sample --prompt "a b" \\\n  --seed 1  # two\n'), [
    ["deno", "run", "-A", "mod.ts", "sample", "--prompt", "a b", "--seed", "1"],
  ]);
  for (const words of [["trian"], ["plan", "--lerning_rate", "1"], ["sample", "--fast"], ["train", "--rank", "x"]]) {
    assert.ok((await problemsOf(words)).length > 0, words.join(" "));
  }
});

Deno.test("blocks that are marked so run from top to bottom", async () => {
  for (const name of documents) {
    const script = shellBlocks(textOf(name)).filter(({ runs }) => runs).map(({ text }) => text).join("\n");
    if (script === "") continue;
    await inScratch(async (folder) => {
      symlinkSync(examples, join(folder, "examples"));
      const program = script.replaceAll(
        /^deno run -A mod\.ts/gm,
        `"${Deno.execPath()}" run -A --quiet "${root}/mod.ts"`,
      );
      const { success, stdout, stderr } = await new Deno.Command("bash", {
        args: ["-euo", "pipefail", "-c", program],
        cwd: folder,
        env: { NO_COLOR: "1" },
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).slice(-2000);
      assert.ok(success, `${name}: ${text(stdout)}\n${text(stderr)}`);
    });
  }
});

Deno.test("links between documents lead somewhere", () => {
  for (const name of documents) {
    for (const [, target] of textOf(name).matchAll(/\]\((?!https?:)([^)#\s]+)[^)]*\)/g)) {
      assert.ok(existsSync(join(root, dirname(name), target!)), `${name}: ${target}`);
    }
  }
});

Deno.test("the errors of troubleshooting are errors of the program", () => {
  const sources = readdirSync(join(root, "lib"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts")).map((name) => textOf(`lib/${name}`)).join("\n");
  const [errors] = textOf("docs/troubleshooting.md").split("\n## Without an error");
  const headings = [...errors!.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading!);
  assert.ok(headings.length > 10);
  // "Requires" begins what Deno itself says.
  for (const heading of headings) assert.ok(heading === "Requires" || sources.includes(heading), heading);
});
