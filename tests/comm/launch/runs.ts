/** Launches programs as ranks and looks at what is left of them. */
import { launch, type LaunchOptions, type LaunchResult } from "../../../lib/comm/launch/launcher.ts";
import type { RankLine } from "../../../lib/comm/launch/rank_lines.ts";
import { regionShape } from "../../../lib/comm/shared_memory/region.ts";
import { HUNG } from "../../patience.ts";
import type { Scenario } from "./fault_program.ts";

/** How a run ended, and what it printed. */
export interface Run extends LaunchResult {
  readonly lines: readonly RankLine[];
  /** Milliseconds from start to end. */
  readonly duration: number;
  /** Process ids of ranks that said so. */
  readonly processes: readonly number[];
}

/** Deadlines of the tests: ten times what a machine with four busy programs per core takes for a turn. */
export const testDeadlines = { usual: 4000, firstStep: 120_000 };

/** Runs `scenario` on `size` ranks. */
export async function runScenario(
  size: number,
  scenario: Scenario,
  options: Partial<LaunchOptions> = {},
): Promise<Run> {
  const lines: RankLine[] = [];
  const start = performance.now();
  const result = await launch({
    module: new URL("fault_program.ts", import.meta.url),
    args: [JSON.stringify(scenario)],
    runtimeOptions: ["--allow-all", "--no-check"],
    size,
    deadlines: testDeadlines,
    shape: regionShape(size, 65536, 2 ** 22),
    // What a rank has to say is compared, however late it comes.
    grace: HUNG,
    ...options,
    onLine: (line) => {
      lines.push(line);
      options.onLine?.(line);
    },
  });
  return {
    ...result,
    lines,
    duration: performance.now() - start,
    processes: processesOf(lines.map(({ text }) => text)),
  };
}

/** Process ids among printed lines. */
export function processesOf(lines: readonly string[]): number[] {
  return lines.flatMap((text) => /process (\d+)$/.exec(text)?.[1] ?? []).map(Number);
}

/** Processes of this machine whose command line holds all of `words`. */
export function processesWith(...words: readonly string[]): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((process) => {
    if (!Number.isInteger(process)) return false;
    try {
      const line = Deno.readTextFileSync(`/proc/${process}/cmdline`);
      return words.every((word) => line.includes(word));
    } catch {
      return false;
    }
  });
}

/** Whether a signal has stopped a process. */
export function isStopped(process: number): boolean {
  return /^\d+ \(.*\) T/.test(Deno.readTextFileSync(`/proc/${process}/stat`));
}

/** Whether a process runs or is stopped; one that only waits for its parent to take note of its end does not count. */
export function isAlive(process: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(Deno.readTextFileSync(`/proc/${process}/stat`));
  } catch {
    return false;
  }
}
