import assert from "node:assert/strict";
import { launchCommand } from "../../lib/cli/launch.ts";
import type { Scenario } from "../comm/fault_program.ts";
import { FakeSignals } from "./fakes.ts";

async function run(scenario: Scenario, signals: FakeSignals, onWrite: (text: string) => void = () => {}) {
  let out = "";
  let error = "";
  const write = (text: string) => {
    out += text;
    onWrite(text);
  };
  const code = await launchCommand(
    { terminal: { write, writeError: (text) => void (error += text), columns: undefined }, signals },
    {
      module: new URL("../comm/fault_program.ts", import.meta.url),
      args: [JSON.stringify(scenario)],
      runtimeOptions: ["--allow-all", "--no-check"],
      gpus: 2,
      pin: (size) => Promise.resolve(new Array(size).fill({ COGTUNE_TEST: "yes" })),
    },
  );
  return { code, out, error };
}

Deno.test("launchCommand: lines carry their rank, and a run that works is code 0", async () => {
  const { code, out, error } = await run({ steps: 3, length: 100 }, new FakeSignals());
  assert.deepEqual([code, error], [0, ""]);
  assert.deepEqual(out.split("\n").filter((line) => line.endsWith("done")).sort(), ["[rank 0] done", "[rank 1] done"]);
});

Deno.test("launchCommand: the first failure is the last message and the exit code", async () => {
  const fault = { action: "throw", rank: 1, at: 2 } as const;
  const { code, out, error } = await run({ steps: 9, length: 100, fault }, new FakeSignals());
  assert.deepEqual([code, error], [4, "error: rank 1 failed with exit code 4\n"]);
  assert.match(out, /\[rank 1\] the disk is full/);
});

Deno.test("launchCommand: Ctrl-C makes all ranks end after one step, with the code of the signal", async () => {
  const signals = new FakeSignals();
  let sent = false;
  const { code, out, error } = await run({ steps: 1e6, length: 100, untilStopped: true }, signals, () => {
    if (!sent) setTimeout(() => signals.send("SIGINT"), 200);
    sent = true;
  });
  assert.equal(code, 130, error);
  assert.match(error, /^SIGINT: ranks finish this step and save/);
  assert.equal(new Set(Array.from(out.matchAll(/stopped after step (\d+)/g), ([, step]) => step)).size, 1);
});

Deno.test("rankSignals: Ctrl-C is left to the launcher, SIGTERM is obeyed", async () => {
  const module = (path: string) => JSON.stringify(new URL(`../../lib/cli/${path}`, import.meta.url).href);
  // In a process of its own: the test runner has its own idea of Ctrl-C.
  const script = `
    import { rankSignals } from ${module("launch.ts")};
    import { withSignals } from ${module("signals.ts")};
    Deno.addSignalListener("SIGINT", () => {});
    const code = await withSignals(rankSignals, async (signal) => {
      Deno.kill(Deno.pid, "SIGINT");
      await new Promise((resolve) => setTimeout(resolve, 100));
      if (signal.aborted) throw new Error("obeyed Ctrl-C");
      const stopped = new Promise((resolve) => signal.addEventListener("abort", resolve));
      Deno.kill(Deno.pid, "SIGTERM");
      await stopped;
    }, () => {});
    Deno.exit(code);`;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", `data:application/typescript,${encodeURIComponent(script)}`],
  }).output();
  assert.equal(code, 143, new TextDecoder().decode(stderr));
});
