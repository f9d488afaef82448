/** Runs on clips of several shapes: what single-shape runs promise holds for them. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "../../lib/cli/commands/data_report.ts";
import type { TrainConfig } from "../../lib/config/config.ts";
import type { HeldOutEvent } from "../../lib/train/report/events.ts";
import { train } from "../../lib/train/trainer.ts";
import { makeClip } from "../data/media.ts";
import { collect, configOf, inScratch } from "./runs.ts";

const buckets = ["9x32x48", "9x48x32", "17x32x48"];

/** The example clips, of 17 frames and lying, with two upright ones and a short one, in `body`'s folder. */
function withShapes(body: (folder: string) => Promise<void>): Promise<void> {
  return inScratch(async (folder) => {
    const clips = join(folder, "clips");
    await makeClip(join(clips, "upright.mp4"), "96x160", 8, 17);
    await makeClip(join(clips, "tall.mp4"), "64x96", 8, 12);
    await makeClip(join(clips, "short.mp4"), "96x64", 8, 10);
    for (const [list, lines] of [["videos.txt", ["upright.mp4", "tall.mp4", "short.mp4"]], ["prompts.txt", "abc"]]) {
      const path = join(clips, list as string);
      writeFileSync(path, `${readFileSync(path, "utf8").trimEnd()}\n${[...lines!].join("\n")}\n`);
    }
    await body(folder);
  });
}

async function losses(config: TrainConfig): Promise<number[]> {
  const events = await collect(config);
  assert.equal(events.at(-1)!.type, "finished");
  return events.flatMap((event) => event.type === "step" ? [event.loss] : []);
}

const state = (folder: string, run: string, step: number) =>
  readFileSync(join(folder, run, `checkpoint-${step}`, "state.safetensors"));

Deno.test("data check tells how many clips each bucket gets and what is cut", () =>
  withShapes(async (folder) => {
    const { lines, problems } = await checkData(configOf(folder, { buckets: [...buckets, "9x48x48"] }));
    assert.deepEqual(problems, []);
    // 160x96 keeps 1.5 / 1.667 of its width, 96x160 as much of its height; the others have the shape of their bucket.
    const expected = "Buckets:      9x32x48 (1, 0 % cut), 9x48x32 (2, 5 % cut), 17x32x48 (4, 10 % cut), 9x48x48 (none)";
    assert.ok(lines.includes(expected), lines.join("\n"));
  }));

Deno.test("a run in one bucket has the bits of a run at that train_resolution", () =>
  withShapes(async (folder) => {
    const shape = "9x48x32";
    const one = await losses(configOf(folder, { buckets: [shape], output_dir: join(folder, "one") }));
    const plain = await losses(configOf(folder, { train_resolution: shape, output_dir: join(folder, "plain") }));
    assert.deepEqual(one, plain);
    assert.deepEqual(state(folder, "one", 4), state(folder, "plain", 4));
  }));

Deno.test("a run in buckets with batches of two continues in the middle, and with two ranks, with the same bits", () =>
  withShapes(async (folder) => {
    const run = (name: string, extra: Record<string, unknown> = {}) =>
      losses(configOf(folder, {
        buckets,
        reduction: "canonical",
        batch_size: 2,
        gradient_accumulation_steps: 2,
        output_dir: join(folder, name),
        ...extra,
      }));
    const whole = await run("whole");
    assert.equal(new Set(whole).size, 4);
    const begun = await run("parts", { train_steps: 2 });
    const continued = await run("parts", { resume_from_checkpoint: "latest" });
    assert.deepEqual([...begun, ...continued], whole);
    assert.deepEqual(state(folder, "parts", 4), state(folder, "whole", 4));
    assert.deepEqual(await run("two", { gpus: 2, gradient_accumulation_steps: 1 }), whole);
    assert.deepEqual(state(folder, "two", 4), state(folder, "whole", 4));
    const sft = { training_type: "sft", mixed_precision: "bf16", train_steps: 2 };
    const all = await run("sft", sft);
    assert.deepEqual(await run("zero", { ...sft, gpus: 2, gradient_accumulation_steps: 1, zero_stage: 2 }), all);
    assert.deepEqual(state(folder, "zero", 2), state(folder, "sft", 2));
  }));

Deno.test("held-out clips of several shapes are measured at their own, and memory is that planned", () =>
  withShapes(async (folder) => {
    const heldout_root = join(folder, "clips");
    const measured = async (extra: Record<string, unknown>) => {
      const events = await collect(
        configOf(folder, { heldout_root, lr_warmup_steps: 0, train_steps: 1, heldout_steps: 1, ...extra }),
      );
      for (const event of events) {
        if (event.type === "memory" && event.phase === "training") assert.equal(event.gpuBytes, event.plannedBytes);
      }
      assert.ok(events.some((event) => event.type === "memory" && event.phase === "training"));
      return events.filter((event): event is HeldOutEvent => event.type === "heldout").map(({ loss }) => loss);
    };
    const [before, after] = await measured({ buckets, output_dir: join(folder, "mixed") });
    assert.ok(before! > 0 && after! > 0 && before !== after);
    const [plain] = await measured({ output_dir: join(folder, "plain") });
    assert.notEqual(before, plain);
  }));

Deno.test("shapes that a model cannot take are refused by name", () =>
  inScratch(async (folder) => {
    assert.throws(
      () => configOf(folder, { buckets: ["9x32x48", "10x32x40", "9x32x48"] }),
      /buckets: 10x32x40: 10 frames: [^]*buckets: 10x32x40: width 40[^]*buckets: 9x32x48: is listed twice/,
    );
    assert.throws(() => configOf(folder, { buckets: ["9x0x48"] }), /buckets/);
    const config = configOf(folder, { buckets: ["9x32x48", "161x768x1360"] });
    await assert.rejects(Array.fromAsync(train(config)), /bucket 161x768x1360 makes \d+ tokens of a clip/);
  }));
