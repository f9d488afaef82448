/** Runs one stage in a process of its own; whatever happens to it becomes an outcome. */
import { join } from "node:path";
import type { Outcome } from "./report.ts";
import { append, type Figures } from "./results.ts";
import type { Stage } from "./stages.ts";

/** Seconds below which no stage is started: an engine takes a few to open. */
const LEAST = 10;

/** How often a stage of small sizes may take its limit: a software driver computes it, beside what else a machine does. */
const SMALL_PATIENCE = 10;

/** Characters of the output of a failed stage that the report shows; all of it is in `logs/`. */
const TAIL = 600;

/** What all stages of a run share. */
export interface Run {
  readonly folder: string;
  readonly results: string;
  readonly small: boolean;
  /** On the clock of `performance`. */
  readonly deadline: number;
}

/** Runs a stage until its limit, or the run's. */
export async function runStage(stage: Stage, { folder, results, small, deadline }: Run): Promise<Outcome> {
  const { name, engine, program, counted } = stage;
  const begin = performance.now();
  const about = { stage: name, engine };
  const left = Math.floor((deadline - begin) / 1000);
  const limit = Math.min(small ? SMALL_PATIENCE * stage.limit : stage.limit, left);
  if (left < LEAST) return { ...about, status: "skipped", seconds: 0, reason: "no time left, see --minutes" };
  const args = stage.args.map((arg) => arg === "RESULTS" ? results : arg === "SIZE" ? (small ? "small" : "full") : arg);
  const env = { COGTUNE_ENGINE: engine, NO_COLOR: "1" };
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, { args, env, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  } catch (error) {
    return { ...about, status: "skipped", seconds: 0, reason: String(error) };
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, 1000 * limit);
  const { success, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const [printed, complaints] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
  const text = printed + complaints;
  Deno.writeTextFileSync(join(folder, "logs", `${name} ${engine}.log`.replaceAll(" ", "_")), text);
  if (counted) append(results, { ...about, name, ...countTests(text) });
  const seconds = Math.round((performance.now() - begin) / 100) / 10;
  if (late) {
    return { ...about, status: "timed out", seconds, reason: `stopped after ${limit} s in: ${lastLine(printed)}` };
  }
  if (!success) return { ...about, status: "failed", seconds, reason: text.slice(-TAIL) };
  return { ...about, status: "ok", seconds };
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1)!;
}

/** What `deno test` printed, also when it was stopped in the middle. */
function countTests(text: string): Figures {
  const failing = [...text.matchAll(/^(.+) \.\.\. FAILED/gm)].map(([, name]) => name);
  return { passed: text.match(/ \.\.\. ok \(/g)?.length ?? 0, failed: failing.length, failing };
}
