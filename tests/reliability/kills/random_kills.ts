/**
 * Kills a process that saves checkpoints at a random moment, again and again in one folder: each time recovery must find a whole
 * checkpoint that is not older than the last one the process reported as saved.
 * Run: deno run -A tests/reliability/kills/random_kills.ts COUNT
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseTemporaryName } from "../../../lib/io/atomic.ts";
import { cleanLeftovers, latestValid, listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { verifyFolder } from "../../../lib/io/commit_folder.ts";
import { random } from "../../comm/launch/chaos.ts";
import { fromFileUrl } from "../../paths.ts";
import { Results } from "../results.ts";
import { weightsOf } from "./save_loop.ts";

const program = fromFileUrl("./save_loop.ts", import.meta.url);

/** Kills of one folder: a result, so that a suite goes on where it stopped. */
const SERIES = 50;
/** A process is killed this many milliseconds at most after one of its first reports: a save takes some 5 ms in memory. */
const LATEST_MILLISECONDS = 12;
const LATEST_REPORT = 4;

/** What the kills of one folder came to. */
export interface Series {
  readonly seed: number;
  readonly kills: number;
  /** Kills that left something unfinished, half-removed or half-replaced. */
  readonly unfinished: number;
  /** Checkpoints that were saved. */
  readonly saved: number;
}

/** Lets the program save for a random while, kills it, and returns the steps it reported. */
async function killed(folder: string, pick: (limit: number) => number): Promise<number[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--quiet", program, folder],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const decoder = new TextDecoder();
  const reports = pick(LATEST_REPORT), milliseconds = pick(LATEST_MILLISECONDS);
  let text = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const bytes of child.stdout) {
    text += decoder.decode(bytes, { stream: true });
    if (text.split("\n").length - 2 < reports) continue;
    timer ??= setTimeout(() => child.kill("SIGKILL"), milliseconds);
  }
  const { signal } = await child.status;
  clearTimeout(timer);
  assert.equal(signal, "SIGKILL", `it ended by itself: ${text.slice(-200)}`);
  // What follows the last line break was cut off by the kill.
  return text.split("\n").slice(1, -1).map(Number);
}

/** Everything below a folder that was committed is whole, with the bytes of its step; returns that step. */
async function stepOf(path: string): Promise<number> {
  assert.deepEqual(await verifyFolder(path), { problems: [], extras: [] }, path);
  const { step } = JSON.parse(readFileSync(join(path, "trainer.json"), "utf8")) as { step: number };
  assert.deepEqual(new Uint8Array(readFileSync(join(path, "weights.bin"))), weightsOf(step), path);
  return step;
}

/** Kills `kills` processes one after the other that save to one folder, in memory where that can be had. */
export async function series(seed: number, kills: number): Promise<Series> {
  const memory = "/dev/shm";
  const folder = mkdtempSync(join(existsSync(memory) ? memory : tmpdir(), "cogtune-kills-"));
  const pick = random(seed);
  let unfinished = 0;
  let newest = 0;
  let best = 0;
  try {
    for (let kill = 0; kill < kills; kill++) {
      const reports = await killed(folder, pick);
      const reported = reports.at(-1) ?? newest;
      const where = `kill ${kill} of seed ${seed}, after step ${reported}`;
      if (readdirSync(folder).some((name) => parseTemporaryName(name) !== undefined)) unfinished++;
      cleanLeftovers(folder);
      const { checkpoint, damaged } = await latestValid(folder);
      assert.deepEqual(damaged, [], where);
      assert.ok((checkpoint?.step ?? 0) >= reported, `${where}: found ${checkpoint?.step}`);
      for (const { path, step } of listCheckpoints(folder)) assert.equal(await stepOf(path), step, where);
      assert.ok(listCheckpoints(folder).length <= 3, where);
      newest = checkpoint?.step ?? 0;
      const kept = existsSync(join(folder, "best")) ? await stepOf(join(folder, "best")) : 0;
      // It is replaced before the next step is saved.
      assert.ok(kept >= (reports.at(-2) ?? best), `${where}: the best is of step ${kept}, before it was of ${best}`);
      best = kept;
      const page = join(folder, "index.html");
      if (existsSync(page)) assert.match(readFileSync(page, "utf8"), /^<p>step \d+<\/p>\n$/, where);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return { seed, kills, unfinished, saved: newest };
}

/** Kills `count` processes, those of earlier starts included. */
export async function randomKills(count: number, print: (line: string) => void): Promise<void> {
  const results = new Results<Series>("random_kills");
  const sum = (of: (result: Series) => number) => results.all.reduce((total, result) => total + of(result), 0);
  while (sum(({ kills }) => kills) < count) results.add(await series(results.all.length, SERIES));
  print(
    `${sum(({ kills }) => kills)} kills, ${sum(({ unfinished }) => unfinished)} of them in the middle of something, ${
      sum(({ saved }) => saved)
    } checkpoints saved, none lost`,
  );
}

if (import.meta.main) {
  // deno-lint-ignore no-console
  await randomKills(Number(Deno.args[0] ?? SERIES), (line) => console.log(line));
}
