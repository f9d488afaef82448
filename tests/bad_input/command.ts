/** Runs the whole program on spoilt copies of the examples, and checks what a refusal must be and must leave alone. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Environment } from "../../lib/cli/machine/environment.ts";
import { createTerminal } from "../../lib/cli/machine/terminal.ts";
import { planReport } from "../../lib/cli/commands/plan_report.ts";
import { processEnvironment } from "../../lib/cli/process_environment.ts";
import { runCli } from "../../lib/cli/run_cli.ts";
import { train } from "../../lib/train/trainer.ts";
import { FakeSignals } from "../cli/fakes.ts";
import { fromFileUrl } from "../paths.ts";
import { examples } from "../train/runs.ts";
import { tuneRun } from "../../lib/train/tune_run.ts";

/** What a command line printed and returned. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/**
 * Runs one command line in this process: everything is real but the terminal and the signals. `onOutput` sees what it
 * prints as it goes.
 */
export async function command(
  args: readonly string[],
  { onOutput }: { readonly onOutput?: (text: string) => unknown } = {},
): Promise<Outcome> {
  let out = "";
  let error = "";
  const environment: Environment = {
    ...processEnvironment({ train, plan: planReport, tune: tuneRun }),
    terminal: createTerminal({
      out: (text) => {
        out += text;
        onOutput?.(text);
      },
      error: (text) => void (error += text),
      columns: () => undefined,
    }),
    signals: new FakeSignals(),
  };
  const code = await runCli(args, environment);
  return { code, out, error };
}

/** Runs one command line in a process of its own with another environment. */
export async function program(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...programWords, ...args],
    env: { ...env, NO_COLOR: "1" },
  }).output();
  return { code, out: textOf(stdout), error: textOf(stderr) };
}

const programWords = ["-A", "--quiet", fromFileUrl("../../mod.ts", import.meta.url)];
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Runs one command line in a shell of its own, after a command that lowers a limit of the system. */
export async function programUnder(limit: string, args: readonly string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    // Nothing is written but what the program writes.
    args: [
      "-c",
      `${limit} && exec "$@"`,
      "sh",
      Deno.execPath(),
      "run",
      "--no-check",
      "--no-code-cache",
      ...programWords,
      ...args,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  return { code, out: textOf(stdout), error: textOf(stderr) };
}

/** Every path below `folder` with what is there: the target of a link, or the kind, or the SHA-256 of a file. */
export function listing(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    const kind = stat.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : `mode ${stat.mode}`;
    found.set(name, kind);
  }
  return found;
}

/** Copies of the example clips and, where a test spoils it, of the model, in a folder that goes away with the test. */
export async function withCopies(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "cogtune-bad-" });
  try {
    mkdirSync(join(folder, "clips", "videos"), { recursive: true });
    for (const name of ["prompts.txt", "videos.txt"]) {
      cpSync(join(examples, "clips", name), join(folder, "clips", name));
    }
    cpSync(join(examples, "clips/videos"), join(folder, "clips/videos"), { recursive: true });
    cpSync(join(examples, "tiny-2b"), join(folder, "model"), { recursive: true });
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Words of a training run on the copies; later words win over these. */
export function trainWords(folder: string, ...more: string[]): string[] {
  return [
    ...["train", `--model_path=${join(folder, "model")}`, "--model_name=cogvideox-t2v"],
    ...[`--data_root=${join(folder, "clips")}`, `--output_dir=${join(folder, "run")}`],
    ...["--train_resolution=9x32x48", "--rank=4", "--train_steps=2", "--lr_warmup_steps=0"],
    ...more,
  ];
}

/** What must be true of a refusal. */
export interface Refusal {
  /** What the message says: where, what was found, what was expected. */
  readonly says: readonly RegExp[];
  /** Paths that may appear although the run is refused: what was finished before, and the lock of the output folder. */
  readonly mayAppear?: RegExp;
}

/** Checks exit code 2, one message with a hint and without a stack, and that nothing in `folder` was lost or changed. */
export async function assertRefused(
  folder: string,
  { says, mayAppear }: Refusal,
  run: () => Promise<Outcome>,
): Promise<Outcome> {
  const before = listing(folder);
  const outcome = await run();
  const { code, error } = outcome;
  assert.equal(code, 2, `exit code ${code}: ${error}`);
  for (const expected of says) assert.match(error, expected);
  assert.equal(error.match(/^error: /gm)?.length, 1, `one message: ${error}`);
  assert.match(error, /^Hint: \S/m);
  assert.doesNotMatch(error, /\.ts:\d+/, "no stack");
  assertUntouched(folder, before, mayAppear);
  return outcome;
}

/** Checks that everything listed before is still there with the same content, and nothing else but what `mayAppear`. */
export function assertUntouched(folder: string, before: ReadonlyMap<string, string>, mayAppear?: RegExp): void {
  const after = listing(folder);
  for (const [path, content] of before) assert.equal(after.get(path), content, `${path} was lost or changed`);
  const appeared = [...after.keys()].filter((path) => !before.has(path) && mayAppear?.test(path) !== true);
  assert.deepEqual(appeared, [], "nothing new may be left behind");
}
