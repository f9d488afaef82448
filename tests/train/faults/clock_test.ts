/**
 * A wall clock that jumps with every look at it, by hours as when summer time ends, by days and by years: what is computed, what
 * is kept and in which order is the same, and nobody is given up for it.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { joinSharedMemory } from "../../../lib/comm/shared_memory/shared_memory.ts";
import { createRegion, regionShape } from "../../../lib/comm/shared_memory/region.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { Watchdog } from "../../../lib/io/http.ts";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { smallStaging } from "../../comm/exchange/groups.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const DAY = 86_400_000;

/** Milliseconds by which the clock is wrong, look by look. */
const JUMPS = [DAY, -DAY, 3_600_000, -3_600_000, 1000, 500 * DAY, -500 * DAY, 0];

const TrueDate = Date;

/** Runs `body` with a clock that jumps; returns how often it was looked at. Other files of tests have a `Date` of their own. */
async function withJumps(body: () => Promise<void>): Promise<number> {
  let looks = 0;
  const now = () => TrueDate.now() + JUMPS[looks++ % JUMPS.length]!;
  class JumpingDate extends TrueDate {
    constructor(...given: [] | [string | number | Date]) {
      super(given.length === 0 ? now() : given[0]);
    }

    static override now(): number {
      return now();
    }
  }
  globalThis.Date = JumpingDate as DateConstructor;
  try {
    await body();
  } finally {
    globalThis.Date = TrueDate;
  }
  return looks;
}

Deno.test("a run under a clock that jumps computes, keeps, orders and continues the same", () =>
  inScratch(async (folder) => {
    const settings = { checkpointing_steps: 1, checkpointing_limit: 2, report_to: "tensorboard", lr_warmup_steps: 0 };
    const quiet = configOf(folder, { ...settings, output_dir: join(folder, "quiet") });
    await collect(quiet);
    const config = configOf(folder, { ...settings, cache_dir: join(folder, "cache") });
    const looks = await withJumps(async () => {
      await collect({ ...config, train_steps: 3 });
      const rest = await collect({ ...config, resume_from_checkpoint: "latest" });
      assert.ok(rest.some((event) => event.type === "started" && event.step === 3));
      // The entries that a run of 500 days ago has made are those of this one.
      const reused = rest.flatMap((event) => event.type === "status" ? [event.message] : []);
      assert.ok(reused.some((message) => /8 reused, 0 new, 0 changed/.test(message)), `${reused}`);
    });
    assert.ok(looks > JUMPS.length, `the clock was looked at ${looks} times`);
    const [a, b] = [config, quiet].map(({ output_dir }) => output_dir);
    const state = (output: string) => readFileSync(join(output, "checkpoint-4", "state.safetensors"));
    assert.deepEqual(state(a!), state(b!));
    assert.deepEqual(listCheckpoints(a!).map(({ step }) => step), [3, 4]);
    const steps = (output: string) =>
      readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line))
        .flatMap(({ type, step, loss }) => type === "step" ? [[step, loss]] : []);
    assert.deepEqual(steps(a!), steps(b!));
    const names = (output: string) => readdirSync(output).filter((name) => !name.startsWith("metrics.")).sort();
    assert.deepEqual(names(a!), names(b!));
  }));

Deno.test("ranks wait for each other, and connections for their servers, by a clock that does not jump", async () => {
  const shape = regionShape(2, smallStaging, 2 ** 20);
  using region = createRegion(shape);
  const deadlines = { usual: 60_000, firstStep: 60_000 };
  const ranks = [0, 1].map((rank) => joinSharedMemory({ path: region.path, shape, rank, deadlines }));
  await withJumps(async () => {
    const met = ranks[0]!.barrier();
    using dog = new Watchdog("nothing came", { stall: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await Promise.all([met, ranks[1]!.barrier()]);
    assert.equal(dog.signal.aborted, false);
  });
});

Deno.test("output folders that are named by a clock that jumps are dates", async () => {
  await withJumps(() => {
    for (let look = 0; look < JUMPS.length; look++) {
      const { output_dir } = parseConfig("model: 2b");
      assert.match(output_dir, /\/runs\/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$/);
    }
    return Promise.resolve();
  });
});
