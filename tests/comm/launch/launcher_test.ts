import assert from "node:assert/strict";
import { launch } from "../../../lib/comm/launch/launcher.ts";
import type { RankLine } from "../../../lib/comm/launch/rank_lines.ts";
import { printedProcesses } from "./chaos.ts";
import { HUNG, until } from "../../patience.ts";
import { isAlive, isStopped, processesOf, type Run, runScenario, testDeadlines } from "./runs.ts";

const linesOf = ({ lines }: Run, rank: number) => lines.filter((line) => line.rank === rank).map(({ text }) => text);

function assertNothingLeft(run: Run): void {
  assert.deepEqual(run.processes.filter(isAlive), []);
}

Deno.test("launch: ranks in processes of their own exchange, and their lines come with their rank", async () => {
  const lines: RankLine[] = [];
  const module = new URL("../exchange/exchange_program.ts", import.meta.url);
  const result = await launch({
    module,
    size: 3,
    runtimeOptions: ["--allow-all", "--no-check"],
    onLine: (line) => lines.push(line),
  });
  assert.deepEqual(result, { code: 0 }, JSON.stringify(lines));
  for (let rank = 0; rank < 3; rank++) {
    const text = `rank ${rank} of 3 by shared_memory: all exchanges are right`;
    assert.deepEqual(lines.filter((line) => line.rank === rank), [{ rank, stream: "out", text }]);
  }
});

Deno.test("a killed rank is named by all others, before any deadline", async () => {
  const deadlines = { usual: 2 * HUNG, firstStep: 2 * HUNG };
  const fault = { action: "kill", rank: 1, at: 7 } as const;
  const run = await runScenario(3, { steps: 50, length: 100_001, fault }, { deadlines });
  assert.equal(run.code, 7);
  assert.match(run.cause!, /^rank 1 was killed by SIGKILL/);
  for (const rank of [0, 2]) assert.equal(linesOf(run, rank).at(-1), `rank ${rank}: allReduce stopped: rank 1 is gone`);
  assert.ok(run.duration < HUNG);
  assertNothingLeft(run);
});

Deno.test("a stopped rank is named after its deadline, also by ranks that do not wait for it directly", async () => {
  // One that only hangs is found by the others alone, a stopped one by the launcher too.
  for (const action of ["delay", "stop"] as const) {
    const fault = { action, rank: 2, at: 5, milliseconds: 2 * HUNG };
    const run = await runScenario(4, { steps: 50, length: 1001, fault });
    assert.equal(run.code, 7);
    const stalled = `made no progress for ${testDeadlines.usual} ms`;
    const told = action === "delay" ? stalled : `(${stalled}|was stopped by a signal)`;
    assert.match(run.cause!, /^rank 2 (made no progress within|was stopped by a signal for longer than) its deadline$/);
    for (const rank of [0, 1, 3]) {
      assert.match(linesOf(run, rank).at(-1)!, new RegExp(`^rank ${rank}: allReduce stopped: rank 2 ${told}$`));
    }
    assertNothingLeft(run);
  }
});

Deno.test("a rank that is stopped while the others wait for long is named after the usual deadline", async () => {
  const deadlines = { ...testDeadlines, firstStep: 2 * HUNG };
  const fault = { action: "stop", rank: 1, at: -1 } as const;
  const run = await runScenario(3, { steps: 50, length: 1001, fault }, { deadlines });
  assert.ok(run.duration < HUNG);
  assert.equal(run.code, 7);
  assert.equal(run.cause, "rank 1 was stopped by a signal for longer than its deadline");
  for (const rank of [0, 2]) {
    assert.equal(linesOf(run, rank).at(-1), `rank ${rank}: barrier stopped: rank 1 was stopped by a signal`);
  }
  assertNothingLeft(run);
});

Deno.test("a slow rank is waited for, and longer in the first step", async () => {
  for (const [at, part] of [[3, 0.25], [-1, 1.5]] as const) {
    const fault = { action: "delay", rank: 0, at, milliseconds: testDeadlines.usual * part } as const;
    const { code, cause } = await runScenario(2, { steps: 5, length: 10, fault });
    assert.equal(code, 0, cause);
  }
});

Deno.test("a rank ten times slower than the steps before is waited for, beyond the usual deadline", async () => {
  const fault = { action: "delay", rank: 1, at: 3, milliseconds: 2 * testDeadlines.usual } as const;
  const patient = await runScenario(2, { steps: 5, length: 10, fault, stepTime: fault.milliseconds / 5 });
  assert.equal(patient.code, 0, patient.cause);
  // A rank that is kept from running counts little of the time in which it waits.
  const { code, cause } = await runScenario(2, { steps: 5, length: 10, fault: { ...fault, milliseconds: 2 * HUNG } });
  assert.equal(code, 7);
  assert.equal(cause, "rank 1 made no progress within its deadline");
});

Deno.test("a stopped rank is named within ten seconds, however long its deadline is", async () => {
  const fault = { action: "stop", rank: 1, at: 2 } as const;
  const deadlines = { usual: 600_000, firstStep: 600_000 };
  const { code, cause, duration } = await runScenario(2, { steps: 5, length: 10, fault }, { deadlines });
  assert.equal(code, 7);
  assert.equal(cause, "rank 1 was stopped by a signal for longer than its deadline");
  assert.ok(duration < HUNG, "ten seconds, and the start of processes on a busy machine");
});

Deno.test("an ordinary error of one rank is the cause, whatever the others say", async () => {
  const run = await runScenario(3, { steps: 50, length: 1001, fault: { action: "throw", rank: 2, at: 5 } });
  assert.equal(run.code, 4);
  assert.equal(run.cause, "rank 2 failed with exit code 4");
  assert.equal(linesOf(run, 2).at(-1), "the disk is full");
  assert.equal(linesOf(run, 0).at(-1), "rank 0: allReduce stopped: rank 2 failed");
  assertNothingLeft(run);
});

Deno.test("a rank that ends before the others is a failure although its exit code is 0", async () => {
  const run = await runScenario(2, { steps: 50, length: 1001, fault: { action: "leave early", rank: 0, at: 5 } });
  assert.deepEqual([run.code, run.cause], [7, "rank 0 ended before the others"]);
  assertNothingLeft(run);
});

Deno.test("a rank whose driver crashes after all work is done fails nothing, one that crashes before does", async () => {
  const fault = { action: "crash at the end", rank: 1, at: 100 } as const;
  const late = await runScenario(2, { steps: 5, length: 10, fault });
  assert.deepEqual([late.code, late.cause], [0, undefined]);
  assert.deepEqual(late.notes, ["rank 1 was killed by SIGABRT after its work was done"]);
  assertNothingLeft(late);
  const early = await runScenario(2, { steps: 5, length: 10, fault: { action: "kill", rank: 1, at: 4 } });
  assert.equal(early.code, 7);
});

Deno.test("stop: all ranks end after the same step, and that is no failure", async () => {
  const stop = new AbortController();
  const run = await runScenario(3, { steps: 1e6, length: 1001, untilStopped: true }, {
    stop: stop.signal,
    onLine: ({ rank }) => {
      // Ranks that have said something handle the signal.
      if (rank === 0) setTimeout(() => stop.abort(), 300);
    },
  });
  assert.equal(run.code, 0, run.cause);
  const ends = [0, 1, 2].map((rank) => linesOf(run, rank).find((text) => text.startsWith("stopped")));
  assert.match(ends[0]!, /^stopped after step \d+$/);
  assert.equal(new Set(ends).size, 1);
  assertNothingLeft(run);
});

Deno.test("stop: ranks that are still starting end too, and those that do not obey are killed", async () => {
  const early = await runScenario(2, { steps: 1e6, length: 10 }, { stop: AbortSignal.abort() });
  assert.deepEqual([early.code, early.stopped], [0, true], early.cause);
  const stop = new AbortController();
  const fault = { action: "stop", rank: 1, at: 5 } as const;
  const late = await runScenario(2, { steps: 1e6, length: 10, fault, untilStopped: true }, {
    stop: stop.signal,
    stopDeadline: 100,
    deadlines: { usual: HUNG, firstStep: HUNG },
    async onLine({ rank, text }) {
      const [process] = processesOf([text]);
      if (rank !== 1 || process === undefined) return;
      await until(() => isStopped(process), "the stop of rank 1");
      stop.abort();
    },
  });
  assert.equal(late.code, 7);
  assert.match(late.cause!, /did not end when asked to and was killed/);
  assertNothingLeft(late);
});

Deno.test("stop: a rank that is not ready to obey and takes the others along is a stop, not a success", async () => {
  const stop = new AbortController();
  let waiting = 0;
  const end = await runScenario(2, { steps: 0, length: 0 }, {
    module: new URL("unready_program.ts", import.meta.url),
    stop: stop.signal,
    onLine: ({ text }) => text === "waiting" && ++waiting === 2 && stop.abort(),
  });
  assert.deepEqual([end.code, end.stopped], [0, true], end.cause);
});

Deno.test("ranks die with their launcher, the stopped ones too, and outlive its idle threads", async () => {
  const scenario = { steps: 1e6, length: 1001, untilStopped: true };
  const program = new URL("launcher_program.ts", import.meta.url).href;
  const launcher = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", program, "3", JSON.stringify(scenario)],
    stdout: "piped",
  }).spawn();
  const processes = await printedProcesses(launcher.stdout, 3);
  // Threads of the runtime's pool end after ten idle seconds; ranks must not hang on one of those.
  await new Promise((resolve) => setTimeout(resolve, 11_000));
  assert.deepEqual(processes.filter(isAlive), processes);
  Deno.kill(processes[1]!, "SIGSTOP");
  launcher.kill("SIGKILL");
  await launcher.status;
  await until(() => !processes.some(isAlive), `the end of ${processes}, whose launcher is gone`);
});

Deno.test("launch: refuses a number of ranks that makes no sense", async () => {
  await assert.rejects(launch({ module: "none.ts", size: 0, onLine: () => {} }), RangeError);
});
