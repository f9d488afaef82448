/**
 * Ends the smallest real programs again and again: a run must end with its exit code and a whole checkpoint, and never by a
 * signal from the driver.
 * Run: deno run -A tests/reliability/clean_ends.ts COUNT [KIND...]
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { verifyFolder } from "../../lib/io/commit_folder.ts";
import { fromFileUrl } from "../paths.ts";
import { examples, inScratch } from "../train/runs.ts";
import { Results } from "./results.ts";

const program = fromFileUrl("../../mod.ts", import.meta.url);
const library = fromFileUrl("./library_program.ts", import.meta.url);

/** How one program ended. */
export interface End {
  readonly kind: string;
  /** Exit code, or the signal that ended it. */
  readonly end: number | string;
  /** Whether the end was the expected one, with everything saved. */
  readonly clean: boolean;
  readonly seconds: number;
  /** What an unclean one printed last. */
  readonly text?: string;
}

const settings = (folder: string) => [
  ...["--model_path", join(examples, "tiny-2b"), "--model_name", "cogvideox-t2v", "--data_root", join(folder, "clips")],
  ...["--output_dir", join(folder, "run"), "--train_resolution", "9x32x48", "--rank", "4", "--lr_warmup_steps", "0"],
];

/** A program and how it should end. */
interface Kind {
  /** Words of the runtime in front of the program; `run` when there are none. */
  readonly runtime?: readonly string[];
  readonly words: (folder: string) => readonly string[];
  readonly code: number;
  /** Whether a checkpoint of step 1 must be whole at the end. */
  readonly saves: boolean;
  /** Interrupts it twice at its first step. */
  readonly interrupted?: boolean;
}

export const kinds: Readonly<Record<string, Kind>> = {
  "a run": { words: (folder) => [program, "train", ...settings(folder), "--train_steps", "1"], code: 0, saves: true },
  "two ranks": {
    words: (folder) => [program, "train", ...settings(folder), "--train_steps", "1", "--gpus", "2"],
    code: 0,
    saves: true,
  },
  "a program with the library": {
    words: (
      folder,
    ) => [library, JSON.stringify(Object.fromEntries(pairs([...settings(folder), "--train_steps", "1"])))],
    code: 0,
    saves: true,
  },
  "a run that is interrupted twice": {
    words: (folder) => [program, "train", ...settings(folder), "--train_steps", "100000"],
    code: 130,
    saves: false,
    interrupted: true,
  },
  "tests in four threads": {
    runtime: ["test", "--parallel"],
    words: () => [fromFileUrl("./threads", import.meta.url)],
    code: 0,
    saves: false,
  },
  "samples": {
    words: (folder) => [
      ...[program, "sample", "--model_path", join(examples, "tiny-2b"), "--prompt", "a ball"],
      ...["--resolution", "9x32x48", "--num_inference_steps", "1", "--output_dir", join(folder, "run")],
    ],
    code: 0,
    saves: false,
  },
};

function pairs(words: readonly string[]): [string, string][] {
  return words.flatMap((word, i) => i % 2 === 0 ? [[word.slice(2), words[i + 1]!] satisfies [string, string]] : []);
}

/** Runs one program to its end. */
async function endOf(folder: string, name: string): Promise<End> {
  const { runtime = ["run"], words, code: expected, saves, interrupted } = kinds[name]!;
  rmSync(join(folder, "run"), { recursive: true, force: true });
  const start = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: [...runtime, "--allow-all", "--no-check", "--quiet", ...words(folder)],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let text = "";
  const decoder = new TextDecoder();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    let signals = 0;
    for await (const bytes of stream) {
      text += decoder.decode(bytes);
      if (interrupted === true && signals === 0 && /step 1\b|1\/100000/.test(text)) signals = kill(child);
      if (signals === 1 && text.includes("once more ends at once")) signals += kill(child);
    }
  };
  const [{ code, signal }] = await Promise.all([child.status, read(child.stdout), read(child.stderr)]);
  const problems = saves && code === 0 ? (await verifyFolder(join(folder, "run", "checkpoint-1"))).problems : [];
  const clean = signal === null && code === expected && problems.length === 0;
  const seconds = (performance.now() - start) / 1000;
  return {
    kind: name,
    end: signal ?? code,
    clean,
    seconds,
    ...(clean ? {} : { text: `${text.slice(-2000)}${problems}` }),
  };
}

function kill(child: Deno.ChildProcess): number {
  try {
    child.kill("SIGINT");
  } catch {
    // It has saved and ended before what it said was read.
  }
  return 1;
}

/** Lets programs of the named kinds end until each has `count` ends, those of earlier starts included. */
export async function cleanEnds(count: number, names: readonly string[], print: (line: string) => void): Promise<void> {
  const results = new Results<End>("clean_ends");
  await inScratch(async (folder) => {
    for (const list of ["videos.txt", "prompts.txt"]) {
      const path = join(folder, "clips", list);
      writeFileSync(path, readFileSync(path, "utf8").split("\n").slice(0, 1).join("\n") + "\n");
    }
    for (const name of names) {
      const ended = () => results.all.filter(({ kind }) => kind === name);
      while (ended().length < count) results.add(await endOf(folder, name));
      const ends = ended();
      const seconds = ends.reduce((sum, { seconds }) => sum + seconds, 0) / ends.length;
      print(
        `${name}: ${ends.filter(({ clean }) => clean).length} of ${ends.length} ends clean, ${
          seconds.toFixed(2)
        } s each`,
      );
      assert.deepEqual(ends.filter(({ clean }) => !clean), [], name);
    }
  });
}

if (import.meta.main) {
  const [count = "10", ...names] = Deno.args;
  // deno-lint-ignore no-console
  await cleanEnds(Number(count), names.length > 0 ? names : Object.keys(kinds), (line) => console.log(line));
}
