/** `deno task gpu`: every stage leaves an outcome, whatever becomes of it, and rates become shares of the measured peaks. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Report, writeReport } from "../../bench/gpu/report.ts";
import { readRows } from "../../bench/gpu/results.ts";
import { type Run, runStage } from "../../bench/gpu/run_stage.ts";
import type { Stage } from "../../bench/gpu/stages.ts";
import { fromFileUrl } from "../paths.ts";

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "gpu-task-"));
  mkdirSync(join(folder, "logs"));
  return folder;
}

function read(folder: string): Report {
  return JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
}

Deno.test("the task reports its stages on the software driver", async () => {
  const folder = newFolder();
  const program = fromFileUrl("../../bench/gpu/main.ts", import.meta.url);
  const args = ["run", "-A", "--no-check", program, "--small", "--only", "peaks,step-tests", "--out", folder];
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, env: { LP_NUM_THREADS: "0" } }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  const { small, outcomes, rows } = read(folder);
  assert.equal(small, true);
  const ofDeno = outcomes.filter(({ engine }) => engine === "deno");
  assert.deepEqual(ofDeno.map(({ stage, status }) => `${stage} ${status}`), [
    "features ok",
    "peaks ok",
    "step-tests ok",
  ]);
  const peaks = rows.find(({ stage }) => stage === "peaks")!;
  assert.ok(Number(peaks.tflops) > 0 && Number(peaks.gb_s) > 0);
  const tests = rows.find(({ stage }) => stage === "step-tests")!;
  assert.ok(Number(tests.passed) > 0);
  assert.equal(tests.failed, 0);
  assert.match(readFileSync(join(folder, "report.md"), "utf8"), /\| peaks \| deno \| ok \|/);
});

Deno.test("a stage that fails, hangs or can't start is an outcome with its reason", async () => {
  const folder = newFolder();
  const results = join(folder, "results.jsonl");
  Deno.writeTextFileSync(results, "");
  const run: Run = { folder, results, small: true, deadline: performance.now() + 60_000 };
  const stage = (name: string, text: string, more: Partial<Stage> = {}): Stage => {
    return { name, engine: "deno", limit: 20, program: Deno.execPath(), args: ["eval", text], ...more };
  };
  const failed = await runStage(stage("fails", 'console.error("no such card"); Deno.exit(3)'), run);
  assert.equal(failed.status, "failed");
  assert.match(failed.reason!, /no such card/);
  const hung = await runStage(
    stage("hangs", 'console.log("one"); console.log("two"); setInterval(() => {}, 1000)', {
      limit: 3,
    }),
    run,
  );
  assert.equal(hung.status, "timed out");
  assert.equal(hung.reason, "stopped after 3 s in: two");
  assert.ok(hung.seconds >= 3 && hung.seconds < 15);
  const absent = await runStage(stage("absent", "", { program: join(folder, "python3") }), run);
  assert.equal(absent.status, "skipped");
  const late = await runStage(stage("late", ""), { ...run, deadline: performance.now() });
  assert.match(late.reason!, /no time left/);
  const text = 'console.log("a ... ok (1ms)\\nb ... FAILED (2ms)\\nc ... ok (3ms)")';
  await runStage(stage("counted", text, { counted: true }), run);
  assert.deepEqual(readRows(results), [
    { stage: "counted", engine: "deno", name: "counted", passed: 2, failed: 1, failing: ["b"] },
  ]);
});

Deno.test("rates are given as shares of the peaks of their own engine", () => {
  const folder = newFolder();
  const peaks = (engine: string, tflops: number) => ({ stage: "peaks", engine, name: "peaks", tflops, gb_s: 1000 });
  writeReport(folder, {
    small: false,
    outcomes: ["deno", "dawn"].flatMap((engine) =>
      ["peaks", "products", "rows"].map((stage) => ({ stage, engine, status: "ok" as const, seconds: 1 }))
    ),
    rows: [
      peaks("deno", 50),
      peaks("dawn", 40),
      { stage: "products", engine: "deno", name: "square", tflops: 30 },
      { stage: "products", engine: "dawn", name: "square", tflops: 30 },
      { stage: "rows", engine: "dawn", name: "norm a|b", gb_s: 250 },
    ],
  });
  const text = readFileSync(join(folder, "report.md"), "utf8");
  assert.match(text, /## products, engine deno\n\n\| name \| tflops \| % of f32 peak \|\n.*\n\| square \| 30 \| 60 \|/);
  assert.match(text, /## products, engine dawn\n\n.*\n.*\n\| square \| 30 \| 75 \|/);
  assert.match(text, /\| norm a\\\|b \| 250 \| 25 \|/);
});
