/** `deno task gpu`: every stage leaves an outcome, whatever becomes of it, and rates become shares of the measured peaks. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Report, writeReport } from "../../bench/gpu/report.ts";
import { readRows } from "../../bench/gpu/results.ts";
import { type Run, runStage } from "../../bench/gpu/run_stage.ts";
import type { Stage } from "../../bench/gpu/stages.ts";
import { HUNG, withDeadline } from "../patience.ts";
import { fromFileUrl } from "../paths.ts";

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "gpu-task-"));
  mkdirSync(join(folder, "logs"));
  return folder;
}

function read(folder: string): Report {
  return JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
}

/** One stage of every kind that takes no minutes. */
const STAGES = ["peaks", "lora-tiny-2b-2", "sampling-tiny-2b-2", "tuning", "step-tests"];

Deno.test("the task reports its stages on the software driver", async () => {
  const folder = newFolder();
  const program = fromFileUrl("../../bench/gpu/main.ts", import.meta.url);
  const args = [
    "run",
    "-A",
    "--no-check",
    program,
    "--small",
    "--only",
    STAGES.join(),
    "--out",
    folder,
    "--minutes",
    "90",
  ];
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, env: { LP_NUM_THREADS: "0" } }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  const { small, outcomes, rows } = read(folder);
  assert.equal(small, true);
  const ofDeno = outcomes.filter(({ engine }) => engine === "deno");
  const expected = ["features", ...STAGES].map((stage) => `${stage} ok`);
  assert.deepEqual(ofDeno.map(({ stage, status }) => `${stage} ${status}`), expected);
  const peaks = rows.find(({ stage }) => stage === "peaks")!;
  assert.ok(Number(peaks.tflops) > 0 && Number(peaks.gb_s) > 0);
  const tests = rows.find(({ stage }) => stage === "step-tests")!;
  assert.ok(Number(tests.passed) > 0);
  assert.equal(tests.failed, 0);
  const ofStage = (wanted: string) => rows.filter(({ stage, engine }) => stage === wanted && engine === "deno");
  const step = ofStage("lora-tiny-2b-2").find(({ whole_seconds }) => whole_seconds !== undefined)!;
  // The tiny model has two blocks, so nothing is left to extrapolate; the plan holds the bytes.
  assert.equal(step.whole_tflop, step.tflop);
  assert.equal(step.whole_seconds, step.seconds);
  assert.ok(Number(step.loss) > 0 && Number(step.gpu_bytes) <= Number(step.plan_bytes));
  assert.ok(ofStage("lora-tiny-2b-2").some(({ family }) => family === "gemm"));
  const [sampled] = ofStage("sampling-tiny-2b-2");
  assert.ok(sampled!.finite === true && Number(sampled!.seconds) > 0);
  const tuned = ofStage("tuning");
  assert.equal(tuned.length, 4);
  assert.ok(tuned.slice(0, 3).every(({ variant, ms }) => typeof variant === "string" && Number(ms) > 0));
  const text = readFileSync(join(folder, "report.md"), "utf8");
  assert.match(text, /\| peaks \| deno \| ok \|/);
  assert.match(text, /## Steps of whole models\n(.|\n)*\| lora tiny-2b, 2 blocks \| deno \| false \|/);
});

Deno.test("a stage that fails, hangs or can't start is an outcome with its reason", async () => {
  const folder = newFolder();
  const results = join(folder, "results.jsonl");
  Deno.writeTextFileSync(results, "");
  const run: Run = { folder, results, small: false, deadline: performance.now() + 20 * HUNG };
  const stage = (name: string, text: string, more: Partial<Stage> = {}): Stage => {
    return { name, engine: "deno", limit: HUNG / 1000, program: Deno.execPath(), args: ["eval", text], ...more };
  };
  const failed = await runStage(stage("fails", 'console.error("no such card"); Deno.exit(3)'), run);
  assert.equal(failed.status, "failed");
  assert.match(failed.reason!, /no such card/);
  await withDeadline(3000, async (milliseconds) => {
    const limit = milliseconds / 1000;
    const hangs = stage("hangs", 'console.log("one"); console.log("two"); setInterval(() => {}, 1000)', { limit });
    const hung = await runStage(hangs, run);
    assert.equal(hung.status, "timed out");
    assert.equal(hung.reason, `stopped after ${limit} s in: two`);
    assert.ok(hung.seconds >= limit);
  });
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
