/**
 * Runs that fail at random: a rank is killed, stopped, delayed, throws or ends early at any moment of any exchange, or the
 * launcher is killed. Every run must end in time, name the culprit, and leave nothing.
 * Run: deno run -A tests/comm/launch/chaos.ts COUNT [FIRST SEED]
 */
import assert from "node:assert/strict";
import type { Scenario } from "./fault_program.ts";
import { HUNG, until } from "../../patience.ts";
import { isAlive, processesOf, type Run, runScenario } from "./runs.ts";

const actions = [
  "kill",
  "stop",
  "throw",
  "leave early",
  "delay",
  "signal kill",
  "signal stop",
  "kill launcher",
] as const;
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Whole numbers below `limit`, the same for the same seed. */
export function random(seed: number): (limit: number) => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    return state % limit;
  };
}

/** Runs one case and throws AssertionError when anything is not as it must be. Returns a line that describes it. */
export async function chaosRun(seed: number): Promise<string> {
  const pick = random(seed);
  for (let i = 0; i < 8; i++) pick(2);
  const action = actions[pick(actions.length)]!;
  const size = 2 + pick(3);
  const rank = pick(size);
  const length = [1, 1001, 30_000, 500_000][pick(4)]!;
  const what = `seed ${seed}: ${action}, rank ${rank} of ${size}, ${length} values`;
  const at = pick(60);
  const moment = pick(200);
  try {
    if (action === "kill launcher") await killLauncher(size, length, moment);
    else if (action.startsWith("signal")) await signalRank(action === "signal stop", size, rank, length, moment);
    else await failInside(action as InsideAction, size, rank, length, at);
  } catch (error) {
    throw new Error(what, { cause: error });
  }
  return what;
}

type InsideAction = NonNullable<Scenario["fault"]>["action"];

async function failInside(action: InsideAction, size: number, rank: number, length: number, at: number): Promise<void> {
  const steps = action === "delay" ? 70 : 100_000;
  const run = await runScenario(size, { steps, length, fault: { action, rank, at, milliseconds: 400 } });
  const shown = JSON.stringify(run);
  assert.deepEqual(run.processes.filter(isAlive), [], shown);
  if (action === "delay") return assert.equal(run.code, 0, shown);
  assert.equal(run.code, action === "throw" ? 4 : 7, shown);
  assert.ok(run.cause!.startsWith(`rank ${rank} `), shown);
  assertNamed(run, size, rank);
}

async function signalRank(stop: boolean, size: number, rank: number, length: number, moment: number): Promise<void> {
  const processes: (number | undefined)[] = [];
  let failed = 0;
  const run = await runScenario(size, { steps: 1e6, length }, {
    onLine: (line) => {
      const [process] = processesOf([line.text]);
      if (process === undefined) return;
      processes[line.rank] = process;
      if (processes.filter((known) => known !== undefined).length < size) return;
      setTimeout(() => {
        failed = performance.now();
        Deno.kill(processes[rank]!, stop ? "SIGSTOP" : "SIGKILL");
      }, moment);
    },
  });
  const shown = JSON.stringify(run);
  const passed = performance.now() - failed;
  assert.deepEqual(run.processes.filter(isAlive), [], shown);
  assert.ok(passed < HUNG, `${passed} ms: ${shown}`);
  assert.equal(run.code, 7, shown);
  // The launcher looks for stopped ranks too, and whoever finds one first says so.
  const what = stop ? "made no progress within|was stopped by a signal" : "was killed by SIGKILL";
  assert.match(run.cause!, new RegExp(`^rank ${rank} (${what})`), shown);
  assertNamed(run, size, rank);
}

/** All other ranks must say whose fault it is. */
function assertNamed(run: Run, size: number, culprit: number): void {
  for (let rank = 0; rank < size; rank++) {
    if (rank === culprit) continue;
    const last = run.lines.filter((line) => line.rank === rank).at(-1)?.text ?? "";
    assert.match(last, new RegExp(`^rank ${rank}: \\w+ stopped: rank ${culprit} `), JSON.stringify(run));
  }
}

async function killLauncher(size: number, length: number, moment: number): Promise<void> {
  const scenario: Scenario = { steps: 1e6, length };
  const launcher = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      new URL("launcher_program.ts", import.meta.url).href,
      `${size}`,
      JSON.stringify(scenario),
    ],
    stdout: "piped",
  }).spawn();
  const processes = await printedProcesses(launcher.stdout, size);
  await sleep(moment);
  launcher.kill("SIGKILL");
  await launcher.status;
  await until(() => !processes.some(isAlive), `the end of ${processes}, whose launcher is gone`);
}

/** Reads until `count` ranks have told their process ids. */
export async function printedProcesses(stream: ReadableStream<Uint8Array>, count: number): Promise<number[]> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  for (let text = "";;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`The launcher ended early: ${text}`);
    text += decoder.decode(value, { stream: true });
    const processes = processesOf(text.split("\n").slice(0, -1));
    if (processes.length < count) continue;
    await reader.cancel();
    return processes;
  }
}

/** Runs `count` cases, several at a time. */
export async function chaos(count: number, first: number, report: (line: string) => void): Promise<void> {
  let next = first;
  const worker = async () => {
    while (next < first + count) report(await chaosRun(next++));
  };
  // Ranks share cores then, which varies their timing further.
  await Promise.all([worker(), worker(), worker()]);
}

if (import.meta.main) {
  const [count = 20, first = 0] = Deno.args.map(Number);
  let done = 0;
  await chaos(count, first, (line) => {
    Deno.stdout.writeSync(new TextEncoder().encode(`${++done} ${line}\n`));
  });
}
