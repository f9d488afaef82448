/** What an output folder holds is continued or kept, and never lost to a run that was started by mistake. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import type { StepEvent, TrainEvent } from "../../../lib/train/report/events.ts";
import { train } from "../../../lib/train/trainer.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const steps = (events: readonly TrainEvent[]) => events.filter((event): event is StepEvent => event.type === "step");
const started = (events: readonly TrainEvent[]) => events.flatMap((e) => e.type === "started" ? [e.step] : []);
const checkpoints = (folder: string) => readdirSync(folder).filter((name) => name.startsWith("checkpoint-")).sort();

Deno.test("an output folder with checkpoints: refused from the beginning, continued after the last, finished at once", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 1, checkpointing_limit: 2, train_steps: 3 });
    const whole = await collect(config);
    const { output_dir } = config;
    assert.deepEqual(checkpoints(output_dir), ["checkpoint-2", "checkpoint-3"]);
    await assert.rejects(
      collect(config),
      (error: unknown) =>
        error instanceof UserError && /holds checkpoint-3[^]*resume_from_checkpoint latest/.test(error.message),
    );
    const path = join(output_dir, "checkpoint-3", "state.safetensors"), state = readFileSync(path);

    const finished = await collect({ ...config, resume_from_checkpoint: "latest" });
    assert.deepEqual([started(finished), steps(finished).length], [[3], 0]);
    const last = finished.at(-1)!;
    assert.ok(last.type === "finished" && !last.interrupted && last.path.endsWith("checkpoint-3"));
    assert.ok(!finished.some(({ type }) => type === "saved"));

    // Going back keeps what is made anew, although checkpoints of later steps lie beside it.
    const back = await collect({
      ...config,
      checkpointing_limit: 1,
      train_steps: 2,
      resume_from_checkpoint: join(output_dir, "checkpoint-2"),
    });
    assert.deepEqual(started(back), [2]);
    assert.ok(back.some((event) => event.type === "warning" && /checkpoint-3" is of a later step/.test(event.message)));
    assert.deepEqual(checkpoints(output_dir), ["checkpoint-2", "checkpoint-3"]);
    for (let time = 0; time < 2; time++) {
      const again = await collect({ ...config, resume_from_checkpoint: join(output_dir, "checkpoint-2") });
      assert.deepEqual(steps(again).map(({ loss }) => loss), steps(whole).slice(2).map(({ loss }) => loss));
      assert.deepEqual(readFileSync(path), state);
    }
  }));

Deno.test("latest passes over a damaged checkpoint and says so; the damaged one is made anew", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 1, train_steps: 2 });
    await collect(config);
    const path = join(config.output_dir, "checkpoint-2", "state.safetensors"), state = readFileSync(path);
    const flipped = Uint8Array.from(state);
    flipped[flipped.length - 1]! ^= 1;
    writeFileSync(path, flipped);
    const events = await collect({ ...config, resume_from_checkpoint: "latest" });
    assert.deepEqual(started(events), [1]);
    const expected = /checkpoint-2" is damaged \(.*state\.safetensors.*SHA-256.*\): continuing from checkpoint-1/;
    assert.ok(events.some((event) => event.type === "warning" && expected.test(event.message)));
    assert.deepEqual(readFileSync(path), state);
  }));

Deno.test("a run that reached no checkpoint begins again and keeps the records of the first attempt", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2 });
    for await (const event of train(config)) if (event.type === "step") break;
    const record = join(config.output_dir, "metrics.jsonl"), first = readFileSync(record);
    assert.ok(!existsSync(join(config.output_dir, "checkpoint-1")));
    await collect(config);
    assert.deepEqual(readFileSync(join(config.output_dir, "metrics.1.jsonl")), first);
    const lines = readFileSync(record, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(lines.filter(({ type }) => type === "step").map(({ step }) => step), [1, 2]);
  }));
