/** Starts one process per rank, watches them, and ends all when one fails. */
import { type Deadlines, defaultDeadlines, peerFailureCode } from "../exchange/communicator.ts";
import { Control, type Failure, MAX_RANKS } from "../shared_memory/control.ts";
import { type GroupMember, groupVariable } from "./membership.ts";
import { type RankLine, readLines } from "./rank_lines.ts";
import { type CreatedRegion, createRegion, type RegionShape, regionShape } from "../shared_memory/region.ts";

/** What to launch. */
export interface LaunchOptions {
  /** Module that every rank runs. */
  readonly module: string | URL;
  readonly args?: readonly string[];
  /** Ranks. */
  readonly size: number;
  /** Options of the runtime in front of the module: permissions, config. All permissions by default. */
  readonly runtimeOptions?: readonly string[];
  /** Further environment variables of each rank. */
  readonly environments?: readonly Readonly<Record<string, string>>[];
  readonly deadlines?: Deadlines;
  readonly shape?: RegionShape;
  /** Gets every line that ranks print. */
  readonly onLine: (line: RankLine) => void;
  /** When aborted, ranks get SIGTERM and are expected to save and end. */
  readonly stop?: AbortSignal;
  /** Milliseconds that ranks have to end after `stop` (10 minutes). */
  readonly stopDeadline?: number;
  /** Milliseconds that ranks have to end by themselves once one has failed (2000). */
  readonly grace?: number;
  /** When aborted, ranks are killed at once. */
  readonly kill?: AbortSignal;
}

/** How a launch ended. */
export interface LaunchResult {
  /** 0, or the exit code of the failure that came first; 7 when a rank was killed, stalled, or ended too early. */
  readonly code: number;
  /** What went wrong, in one line. */
  readonly cause?: string;
  /** Whether `stop` ended ranks before they had done their work. */
  readonly stopped?: boolean;
  /** A line for each rank that crashed after all work was done. */
  readonly notes?: readonly string[];
}

/** Milliseconds after the end of all ranks for which their output is read: a process that one started may hold it. */
const REST = 10_000;
/** Milliseconds between two looks at whether a rank is stopped. */
const LOOK = 500;
/** Milliseconds more than a rank's deadline that a rank may be stopped: ranks that wait for it are to speak first. */
const STOPPED_MARGIN = 1000;
/** Milliseconds that a rank may be stopped at most: however long a step takes, a stopped rank makes none. */
const MOST_STOPPED = 8000;
/** Variables that make a graphics driver look for a screen: NVIDIA's shows only the first card then. */
const screenVariables = ["DISPLAY", "WAYLAND_DISPLAY"];
/** Exit codes of a rank that was asked to end, and signals that ended it before it was ready to obey them. */
const stoppedCodes = [0, 130, 143];
const stopSignals: readonly (string | null)[] = ["SIGHUP", "SIGINT", "SIGTERM"];

/** How a rank ended. */
interface RankEnd {
  readonly rank: number;
  readonly status: Deno.CommandStatus;
  /** Whether it had left the group, with all others. */
  readonly left: boolean;
}

/**
 * Runs `module` in `size` processes that find each other by `connect()`, and waits for all to end. When one fails the
 * others are woken and have two seconds; whatever happens, no process and no memory is left. Nothing survives the
 * launcher either: the kernel kills ranks whose launcher ends.
 *
 * @throws {UserError} when the machine lacks memory for the exchange.
 */
export async function launch(options: LaunchOptions): Promise<LaunchResult> {
  const { size, onLine } = options;
  if (!Number.isInteger(size) || size < 1 || size > MAX_RANKS) {
    throw new RangeError(`Cannot launch ${size} ranks: expected 1 to ${MAX_RANKS}`);
  }
  using region = createRegion(options.shape ?? regionShape(size));
  const control = new Control(region.control, region.address, size);
  const children: Deno.ChildProcess[] = [];
  try {
    for (let rank = 0; rank < size; rank++) children.push(startRank(options, region, rank));
    const lines = children.map(({ stdout, stderr }, rank) =>
      Promise.all([readLines(stdout, rank, "out", onLine), readLines(stderr, rank, "error", onLine)])
    );
    const ends = await watch(children, control, options);
    await atMost(REST, Promise.all(lines));
    return judge(ends, control.failure(), options.stop?.aborted ?? false);
  } finally {
    for (const child of children) kill(child, "SIGKILL");
  }
}

function startRank(options: LaunchOptions, { path, shape }: CreatedRegion, rank: number): Deno.ChildProcess {
  const { module, args = [], runtimeOptions = ["--allow-all"], environments, deadlines = defaultDeadlines } = options;
  const member: GroupMember = { rank, launcher: Deno.pid, path, shape, deadlines };
  const inherited = Object.entries(Deno.env.toObject()).filter(([name]) => !screenVariables.includes(name));
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...runtimeOptions, String(module), ...args],
    env: { ...Object.fromEntries(inherited), ...environments?.[rank], [groupVariable]: JSON.stringify(member) },
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits for all ranks to end, in the order in which they do, and sees to it that they do. */
async function watch(
  children: readonly Deno.ChildProcess[],
  control: Control,
  { stop, stopDeadline = 600_000, grace = 2000, kill: killSignal, deadlines = defaultDeadlines }: LaunchOptions,
): Promise<RankEnd[]> {
  const timers: ReturnType<typeof setTimeout>[] = [];
  const killAll = () => children.forEach((child) => kill(child, "SIGKILL"));
  const onStop = () => {
    children.forEach((child) => kill(child, "SIGTERM"));
    timers.push(setTimeout(killAll, stopDeadline));
  };
  if (stop?.aborted) onStop();
  stop?.addEventListener("abort", onStop, { once: true });
  killSignal?.addEventListener("abort", killAll, { once: true });
  const looks = watchStops(children, Math.min(deadlines.usual + STOPPED_MARGIN, MOST_STOPPED), (rank) => {
    control.fail(rank, "stopped");
    kill(children[rank]!, "SIGKILL");
  });
  const ends: RankEnd[] = [];
  try {
    await Promise.all(children.map(async (child, rank) => {
      const status = await child.status;
      const left = control.state(rank) === "left";
      ends.push({ rank, status, left });
      if (left && (status.success || status.signal !== null || stop?.aborted)) return;
      control.fail(rank, status.signal !== null ? "gone" : status.success ? "early" : "failed");
      const failure = control.failure()!;
      if (failure.reason === "stalled") kill(children[failure.rank]!, "SIGKILL");
      timers.push(setTimeout(killAll, grace));
    }));
  } finally {
    clearInterval(looks);
    stop?.removeEventListener("abort", onStop);
    killSignal?.removeEventListener("abort", killAll);
    timers.forEach(clearTimeout);
  }
  return ends;
}

/**
 * Calls `found` with a rank that a signal has stopped for longer than `patience` milliseconds. Others wait minutes for
 * a rank that compiles and hours for one that saves or encodes, but a stopped one does neither. What counts is the time
 * that this process itself ran, so stopping all of a job does no harm.
 */
function watchStops(
  children: readonly Deno.ChildProcess[],
  patience: number,
  found: (rank: number) => void,
): ReturnType<typeof setInterval> {
  const stopped = children.map(() => 0);
  return setInterval(() => {
    for (const [rank, { pid }] of children.entries()) {
      stopped[rank] = isStopped(pid) ? stopped[rank]! + LOOK : 0;
      if (stopped[rank]! > patience) found(rank);
    }
  }, LOOK);
}

/** Whether a process of this machine is stopped by a signal; false when it has ended. */
function isStopped(process: number): boolean {
  try {
    const stat = Deno.readTextFileSync(`/proc/${process}/stat`);
    // The name in front of the state is in parentheses and may hold some.
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
  } catch {
    return false;
  }
}

/**
 * Finds the failure that the others follow from. A rank that says "another rank failed" (code 7) is never it, and
 * neither is one that the launcher killed because it was late; both end after the true cause.
 */
function judge(ends: readonly RankEnd[], failure: Failure | undefined, stopped: boolean): LaunchResult {
  // Ranks leave together when all is saved; a driver that crashes while a process ends takes nothing of that away.
  const isDone = ({ status, left }: RankEnd) => left && (status.success || status.signal !== null);
  const isClean = (end: RankEnd) =>
    isDone(end) || (stopped && (stoppedCodes.includes(end.status.code) || stopSignals.includes(end.status.signal)));
  const unclean = ends.filter((end) => !isClean(end));
  if (unclean.length === 0) return ends.every(isDone) ? { code: 0, ...lateCrashes(ends) } : { code: 0, stopped };
  const own = unclean.find(({ status }) => status.signal === null && ![0, peerFailureCode].includes(status.code));
  const named = ends.find(({ rank }) => rank === failure?.rank);
  if (failure?.reason === "failed" && own !== undefined) {
    return { code: own.status.code, cause: `rank ${own.rank} failed with exit code ${own.status.code}` };
  }
  if (failure === undefined || named === undefined) {
    return { code: peerFailureCode, cause: `rank ${unclean[0]!.rank} ended with exit code ${unclean[0]!.status.code}` };
  }
  // A rank that was asked to end before it was ready to obey ends at once, and the others after it.
  if (stopped && isClean(named)) return { code: 0, stopped };
  const what = {
    gone: stopped && named.status.signal === "SIGKILL"
      ? "did not end when asked to and was killed"
      : `was killed by ${named.status.signal}${
        named.status.signal === "SIGKILL" ? " (the kernel does so when memory runs out)" : ""
      }`,
    stalled: "made no progress within its deadline",
    stopped: "was stopped by a signal for longer than its deadline",
    early: "ended before the others",
    failed: "failed",
  }[failure.reason];
  return { code: peerFailureCode, cause: `rank ${failure.rank} ${what}` };
}

function lateCrashes(ends: readonly RankEnd[]): Pick<LaunchResult, "notes"> {
  const crashed = ends.filter(({ status }) => status.signal !== null);
  if (crashed.length === 0) return {};
  return {
    notes: crashed.map(({ rank, status }) => `rank ${rank} was killed by ${status.signal} after its work was done`),
  };
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended already.
  }
}

/** Waits for `work`, but not for ever. */
async function atMost(milliseconds: number, work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, milliseconds));
  await Promise.race([work, late]);
  clearTimeout(timer);
}
