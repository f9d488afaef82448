/**
 * Bugs put into copies of the program on purpose: each must make one of the tests named with it fail, which pass without
 * it.
 * Run: deno run -A tests/reliability/seeded_bugs.ts [WORD...]     (only bugs whose name holds one of the words)
 */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";
import { adapterBugs } from "./bugs/adapters.ts";
import type { Bug, Bugs } from "./bugs/bug.ts";
import { dataBugs } from "./bugs/data.ts";
import { fileBugs } from "./bugs/files.ts";
import { kernelBugs } from "./bugs/kernels.ts";
import { memoryBugs } from "./bugs/memory.ts";
import { modelBugs } from "./bugs/models.ts";
import { optimizerBugs } from "./bugs/optimizer.ts";
import { programBugs } from "./bugs/program.ts";
import { rankBugs } from "./bugs/ranks.ts";
import { trainingBugs } from "./bugs/training.ts";
import { Results } from "./results.ts";

/** The lists by subject. */
export const subjects: readonly Bugs[] = [
  fileBugs,
  dataBugs,
  kernelBugs,
  optimizerBugs,
  memoryBugs,
  modelBugs,
  adapterBugs,
  trainingBugs,
  rankBugs,
  programBugs,
];

/** All bugs, by what is wrong. */
export const bugs: Bugs = Object.assign({}, ...subjects);

/** Milliseconds that tests of a bug may take: a bug may make them wait for ever. */
const LONGEST = 300_000;

/** Enough for the tests; the message of a failed comparison of large arrays may take all there is. */
const HEAP = "--v8-flags=--max-old-space-size=4096";

/** What became of a bug. */
interface Caught {
  readonly bug: string;
  readonly caught: boolean;
  readonly seconds: number;
}

/** A copy of the repository in which only the files of git are. */
function copyOf(root: string): string {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-bugs-"));
  const listed = new Deno.Command("git", { args: ["ls-files", "-co", "--exclude-standard"], cwd: root }).outputSync();
  for (const name of new TextDecoder().decode(listed.stdout).trim().split("\n")) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  return folder;
}

/** Whether the tests of a bug pass in `folder`. */
async function pass(folder: string, { tests, filter }: Bug): Promise<boolean> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: [
      "test",
      "--allow-all",
      "--no-check",
      "--fail-fast",
      HEAP,
      ...(filter === undefined ? [] : [`--filter=${filter}`]),
      ...tests.split(" "),
    ],
    cwd: folder,
    stdout: "null",
    stderr: "null",
    signal: AbortSignal.timeout(LONGEST),
  }).output();
  return success;
}

/** Tries the bugs that earlier starts have not; returns those that no test noticed. */
export async function seedBugs(names: readonly string[], print: (line: string) => void): Promise<string[]> {
  const results = new Results<Caught>("seeded_bugs");
  // Tests that fail anyway prove nothing.
  const sound = new Results<string>("seeded_bugs_sound");
  const folder = copyOf(fromFileUrl("../..", import.meta.url));
  try {
    for (const name of names.filter((name) => !results.all.some(({ bug }) => bug === name))) {
      const bug = bugs[name]!;
      const { file, from, to, tests, filter = "" } = bug;
      const path = join(folder, file), text = readFileSync(path, "utf8");
      assert.equal(text.split(from).length, 2, `${name}: ${file} must hold the text once`);
      if (!sound.all.includes(`${tests} ${filter}`)) {
        assert.ok(await pass(folder, bug), `${tests} must pass without a bug`);
        sound.add(`${tests} ${filter}`);
      }
      writeFileSync(path, text.replace(from, () => to));
      const started = performance.now();
      const caught = !await pass(folder, bug);
      writeFileSync(path, text);
      const seconds = Math.round((performance.now() - started) / 1000);
      results.add({ bug: name, caught, seconds });
      print(`${caught ? "caught" : "MISSED"}: ${name} (${seconds} s)`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const tried = results.all.filter(({ bug }) => names.includes(bug));
  print(`${tried.filter(({ caught }) => caught).length} of ${tried.length} bugs caught`);
  return tried.filter(({ caught }) => !caught).map(({ bug }) => bug);
}

if (import.meta.main) {
  const names = Object.keys(bugs).filter((name) => Deno.args.length === 0 || Deno.args.some((w) => name.includes(w)));
  // deno-lint-ignore no-console
  if ((await seedBugs(names, (line) => console.log(line))).length > 0) Deno.exit(1);
}
