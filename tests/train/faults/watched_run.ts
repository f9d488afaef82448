/**
 * `cogtune train` in processes of its own, watched from outside: the exchanges of its ranks are read in the memory they share,
 * and a process is killed, stopped or delayed when one of them gets to a given exchange.
 */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { join } from "node:path";
import { Control, CONTROL_BYTES } from "../../../lib/comm/shared_memory/control.ts";
import { type GroupMember, groupVariable } from "../../../lib/comm/launch/membership.ts";
import { HUNG } from "../../patience.ts";
import { fromFileUrl } from "../../paths.ts";

const program = fromFileUrl("../../../mod.ts", import.meta.url);

/** Milliseconds after which a run counts as one that never ends. */
const LONGEST = 5 * HUNG;
const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** What happens to a run. */
export interface Fault {
  readonly action: "kill" | "stop" | "delay" | "kill launcher";
  /** The rank it happens to, and whose exchanges count. */
  readonly rank: number;
  /** The exchange that the rank must have begun; undefined: its process has started. */
  readonly exchange: number | undefined;
  /** Milliseconds from there to the fault. */
  readonly after: number;
  /** Milliseconds that `delay` takes. */
  readonly duration: number;
}

/** How a run ended. */
export interface WatchedRun {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  /** All that was printed. */
  readonly text: string;
  /** Most exchanges that rank 0 was seen to begin. */
  readonly exchanges: number;
  /** Milliseconds from the fault to the end of all processes; undefined when it did not come about. */
  readonly ended: number | undefined;
  /** The rank had done all its work before the fault. */
  readonly late: boolean;
  /** Files that ranks had open under /dev/shm at the fault: names that could stay behind. */
  readonly named: readonly string[];
}

/** A rank and the control block it shares. */
interface Rank extends GroupMember {
  readonly process: number;
}

/** Processes, the ended ones left out, that were started with `TMPDIR=temporary`, with their environments. */
function processesOf(temporary: string): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "latin1").split("\0");
      if (environment.includes(`TMPDIR=${temporary}`)) found.set(Number(name), environment);
    } catch {
      // It has ended since, or belongs to someone else.
    }
  }
  return found;
}

/** Whether any thread of a process is left: until the last one ends, its files and their locks stay open. */
function isLeft(process: number): boolean {
  try {
    const ended = /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${process}/stat`, "latin1"));
    return !ended || readdirSync(`/proc/${process}/task`).length > 1;
  } catch {
    return false;
  }
}

function commandOf(process: number): string {
  try {
    return readFileSync(`/proc/${process}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "ended";
  }
}

function ranksOf(processes: ReadonlyMap<number, string[]>): Rank[] {
  const ranks: Rank[] = [];
  for (const [process, environment] of processes) {
    const value = environment.find((variable) => variable.startsWith(`${groupVariable}=`));
    if (value === undefined) continue;
    const rank: Rank = { ...JSON.parse(value.slice(groupVariable.length + 1)), process };
    ranks[rank.rank] = rank;
  }
  return ranks;
}

/** A view of what ranks tell each other, as it was at the last `look`. */
class Watch {
  readonly #file: number;
  readonly #bytes = new Uint8Array(CONTROL_BYTES);
  readonly control: Control;

  constructor({ path, shape }: Rank) {
    this.#file = openSync(path, "r");
    this.control = new Control(this.#bytes.buffer, 0n, shape.size);
  }

  look(): void {
    readSync(this.#file, this.#bytes, 0, CONTROL_BYTES, 0);
  }

  /** Number of the exchange that a rank has begun last. */
  exchange(rank: number): number {
    return Math.max(this.control.exchange(rank, 0).number, this.control.exchange(rank, 1).number);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

function openFiles(process: number): string[] {
  const folder = `/proc/${process}/fd`;
  const unlessGone = <T>(look: () => T[]): T[] => {
    try {
      return look();
    } catch {
      // The process has ended, or closed the file.
      return [];
    }
  };
  return unlessGone(() => readdirSync(folder)).flatMap((name) => unlessGone(() => [readlinkSync(join(folder, name))]));
}

/** Sends a signal; false when the process has ended before. */
function send(process: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(process, signal);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Makes the fault happen to a process; false when it has ended before. */
async function strike({ action, duration }: Fault, process: number): Promise<boolean> {
  if (action !== "delay") return send(process, action === "stop" ? "SIGSTOP" : "SIGKILL");
  const stopped = send(process, "SIGSTOP");
  await sleep(duration);
  return send(process, "SIGCONT") && stopped;
}

/** What is known while a run lasts. */
interface Progress {
  running: boolean;
  exchanges: number;
  struck?: number;
  late: boolean;
  named: string[];
  /** All that were seen; one that is ending has no environment by which to find it. */
  readonly processes: Set<number>;
}

/** Follows a run to its end and makes the fault happen on the way. */
async function follow(temporary: string, size: number, fault: Fault | undefined, progress: Progress): Promise<void> {
  let ranks: Rank[] = [];
  while (progress.running && Object.keys(ranks).length < size) {
    await sleep(20);
    const processes = processesOf(temporary);
    for (const process of processes.keys()) progress.processes.add(process);
    ranks = ranksOf(processes);
  }
  if (!progress.running) return;
  using watch = new Watch(ranks[0]!);
  const isDue = () => fault?.exchange === undefined || watch.exchange(fault.rank) >= fault.exchange;
  while (progress.running) {
    watch.look();
    progress.exchanges = Math.max(progress.exchanges, watch.exchange(0));
    if (fault !== undefined && progress.struck === undefined && isDue()) {
      await sleep(fault.after);
      const { process, launcher } = ranks[fault.rank]!;
      watch.look();
      progress.late = watch.control.state(fault.rank) === "left";
      if (!progress.late) {
        progress.named = ranks.flatMap(({ process }) => openFiles(process)).filter((path) =>
          path.startsWith("/dev/shm")
        );
      }
      const start = performance.now();
      if (await strike(fault, fault.action === "kill launcher" ? launcher : process)) progress.struck = start;
      else progress.late = true;
    }
    await sleep(1);
  }
}

/**
 * Trains with the words of a command line on `size` ranks and waits for the end of all processes.
 *
 * @param temporary folder for temporary files of the run; it tells its processes from others.
 * @throws {Error} with all output when the run does not end or leaves a process.
 */
export async function watchRun(
  words: readonly string[],
  { size, temporary, fault }: { readonly size: number; readonly temporary: string; readonly fault?: Fault | undefined },
): Promise<WatchedRun> {
  const launcher = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", "--quiet", program, "train", ...words],
    env: { TMPDIR: temporary, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const progress: Progress = { running: true, exchanges: 0, late: false, named: [], processes: new Set() };
  const processesLeft = () => [...new Set([...progress.processes, ...processesOf(temporary).keys()])].filter(isLeft);
  let hung = false;
  const endAll = () => processesLeft().forEach((process) => send(process, "SIGKILL"));
  const timer = setTimeout(() => {
    hung = true;
    endAll();
  }, LONGEST);
  const texts = Promise.all([new Response(launcher.stdout).text(), new Response(launcher.stderr).text()]);
  const following = follow(temporary, size, fault, progress);
  const { code, signal } = await launcher.status;
  // Ranks of a killed launcher are left to the kernel, programs that a killed rank has started to their closed pipes.
  const patience = performance.now() + HUNG;
  let left = processesLeft();
  while (left.length > 0 && performance.now() < patience) {
    await sleep(5);
    left = processesLeft();
  }
  const end = performance.now();
  const commands = left.map(commandOf);
  progress.running = false;
  clearTimeout(timer);
  endAll();
  await following;
  const text = (await texts).join("");
  if (hung) throw new Error(`The run did not end: ${text}`);
  if (left.length > 0) throw new Error(`Processes outlived the run: ${commands.join("; ")}: ${text}`);
  const ended = progress.struck === undefined ? undefined : end - progress.struck;
  return { code, signal, text, exchanges: progress.exchanges, ended, late: progress.late, named: progress.named };
}
