/**
 * A long run of the tiny model with saves, validation, held-out clips and a full cache: memory, open files, GPU bytes and the
 * time of a step must not grow, and what the run writes stays small. Time is that of the processor, saves and validation
 * included, which says the same on a busy machine. It goes on from its last checkpoint when it was stopped.
 * Run: deno run -A tests/reliability/long_run.ts STEPS
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { cpuUsage } from "node:process";
import { listCheckpoints } from "../../lib/io/checkpoints.ts";
import { train } from "../../lib/train/trainer.ts";
import { fromFileUrl } from "../paths.ts";
import { configOf, examples } from "../train/runs.ts";
import { Results } from "./results.ts";

/** Where the run lies between starts. */
export const LONG_FOLDER: string = fromFileUrl("../../.results/long_run", import.meta.url);

/** Steps between two looks: as many as between two saves, so that each interval holds one. */
const STRIDE = 100;

/** Steps that a process takes to reach its size: caches of the runtime fill. */
const SETTLED = 300;

/** What is seen after a step. */
export interface Look {
  readonly process: number;
  readonly step: number;
  /** Processor seconds per step since the last look. */
  readonly seconds: number;
  readonly residentBytes: number;
  readonly openFiles: number;
  readonly gpuBytes: number;
}

/** Growth of a figure per 1000 steps by least squares, in parts of its median. */
export function slope(looks: readonly Look[], figure: (look: Look) => number): { median: number; slope: number } {
  const values = looks.map(figure), steps = looks.map(({ step }) => step);
  const mean = (list: readonly number[]) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [x, y] = [mean(steps), mean(values)];
  const covariance = mean(steps.map((step, i) => (step - x) * (values[i]! - y)));
  const variance = mean(steps.map((step) => (step - x) ** 2));
  const median = values.toSorted((a, b) => a - b)[values.length >> 1]!;
  return { median, slope: (1000 * covariance) / variance / median };
}

/** Trains up to `steps`; prints the slopes of the longest stretch that one process made. */
export async function longRun(steps: number, folder: string, print: (line: string) => void): Promise<void> {
  const results = new Results<Look>("long_run");
  if (!existsSync(join(folder, "clips"))) {
    cpSync(join(examples, "clips"), join(folder, "clips"), {
      recursive: true,
      filter: (path) => !path.endsWith("/cache"),
    });
  }
  const resumes = listCheckpoints(join(folder, "run")).length > 0;
  const config = configOf(folder, {
    train_steps: steps,
    checkpointing_steps: STRIDE,
    checkpointing_limit: 2,
    do_validation: true,
    validation_dir: join(folder, "clips"),
    validation_prompts: "prompts.txt",
    validation_steps: 500,
    num_inference_steps: 1,
    report_to: "tensorboard",
    ...(resumes ? { resume_from_checkpoint: "latest" } : {}),
  });
  let last = cpuUsage();
  for await (const event of train(config)) {
    if (event.type !== "step" || event.step % STRIDE !== 0) continue;
    const { user, system } = cpuUsage(last);
    last = cpuUsage();
    results.add({
      process: Deno.pid,
      step: event.step,
      seconds: (user + system) / 1e6 / STRIDE,
      residentBytes: Deno.memoryUsage().rss,
      openFiles: [...Deno.readDirSync("/proc/self/fd")].length,
      gpuBytes: event.gpuBytes,
    });
  }
  const stretches = [...Map.groupBy(results.all, ({ process }) => process).values()];
  const [longest] = stretches.sort((a, b) => b.length - a.length);
  const looks = longest!.slice(SETTLED / STRIDE);
  print(`${steps} steps in ${stretches.length} processes; the longest stretch made ${STRIDE * longest!.length}`);
  const figures = {
    "resident memory (MB)": slope(looks, ({ residentBytes }) => residentBytes / 1e6),
    "open files": slope(looks, ({ openFiles }) => openFiles),
    "GPU memory (MB)": slope(looks, ({ gpuBytes }) => gpuBytes / 1e6),
    "processor seconds per step": slope(looks, ({ seconds }) => seconds),
  };
  for (const [name, { median, slope }] of Object.entries(figures)) {
    print(`${name}: median ${median.toFixed(3)}, ${(100 * slope).toFixed(3)} % per 1000 steps`);
  }
  const run = join(folder, "run");
  for (const name of readdirSync(run).sort()) {
    const { size } = statSync(join(run, name));
    if (!name.startsWith(".")) print(`${name}: ${size} bytes, ${(size / steps).toFixed(1)} a step`);
  }
  assert.ok(figures["resident memory (MB)"].slope < 0.01, "resident memory grows");
  assert.ok(figures["processor seconds per step"].slope < 0.01, "steps take longer");
  for (const name of ["open files", "GPU memory (MB)"] as const) {
    assert.ok(Math.abs(figures[name].slope) < 1e-6, `${name} change`);
  }
}

if (import.meta.main) {
  // deno-lint-ignore no-console
  await longRun(Number(Deno.args[0] ?? 20_000), LONG_FOLDER, (line) => console.log(line));
}
