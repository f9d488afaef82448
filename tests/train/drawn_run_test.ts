/** Runs without any file of a model: random weights, random clips, everything else as in other runs. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { resolveConfig, type TrainConfig } from "../../lib/config/config.ts";
import type { StepEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { openTransformer } from "../../lib/models/transformer/file.ts";
import { cli } from "../cli/fakes.ts";
import { engine } from "../engine.ts";
import { collect, inScratch } from "./runs.ts";

function drawn(folder: string, overrides: Record<string, unknown>): TrainConfig {
  const text = `random_weights: true\nrank: 4\nlr_warmup_steps: 0\nengine: ${engine}\noutput_dir: ${
    join(folder, "run")
  }`;
  return resolveConfig(text, { overrides }).config;
}

const losses = (events: readonly TrainEvent[]) =>
  events.filter((event): event is StepEvent => event.type === "step").map(({ loss }) => loss);

Deno.test("a LoRA trains on random weights and clips, says so, and continues with the same bits", () =>
  inScratch(async (folder) => {
    const settings = { model: "tiny-2b", train_steps: 3, checkpointing_steps: 2 };
    const events = await collect(drawn(folder, settings));
    assert.ok(events.some((event) => event.type === "warning" && /measures and learns nothing/.test(event.message)));
    const found = losses(events);
    assert.equal(found.length, 3);
    // Target and prediction are independent and near one in deviation: the loss is near the sum of both variances.
    for (const loss of found) assert.ok(loss > 0.5 && loss < 5, `${loss}`);
    const resume = { resume_from_checkpoint: join(folder, "run/checkpoint-2"), output_dir: join(folder, "again") };
    assert.deepEqual(losses(await collect(drawn(folder, { ...settings, ...resume }))), found.slice(2));
    const state = (run: string) => readFileSync(join(folder, run, "checkpoint-3/state.safetensors"));
    assert.deepEqual(state("again"), state("run"));
  }));

Deno.test("all weights of an image-to-video model, streamed ones and quantised ones are drawn too", () =>
  inScratch(async (folder) => {
    const sft = { model: "tiny-5b-i2v", training_type: "sft", train_steps: 1, train_resolution: "9x48x80" };
    assert.equal(losses(await collect(drawn(folder, sft))).length, 1);
    using saved = openTransformer(join(folder, "run/checkpoint-1/transformer"));
    assert.equal(saved.config.in_channels, 32);
    const small = { model: "tiny-5b", train_steps: 1, mixed_precision: "bf16", train_resolution: "9x32x48" };
    const loss = async (base_weights: string) =>
      losses(await collect(drawn(folder, { ...small, base_weights, output_dir: join(folder, base_weights) })))[0]!;
    const resident = await loss("resident");
    assert.equal(await loss("streamed"), resident);
    assert.ok(Math.abs(await loss("int8") - resident) < 0.02 * resident);
  }));

Deno.test("the command ends with what such a run is good for", () =>
  inScratch(async (folder) => {
    const output = join(folder, "run");
    const finished: TrainEvent = { type: "finished", step: 1, seconds: 1, path: output, interrupted: false };
    const events = async function* () {
      yield await Promise.resolve(finished);
    };
    const { out, code } = await cli(["--random_weights", "--model", "tiny-2b", "--output_dir", output], { events });
    assert.equal(code, 0);
    assert.match(out, /random weights and random clips: what this run was good for are its times and its memory/);
    assert.ok(!existsSync(output));
  }));
