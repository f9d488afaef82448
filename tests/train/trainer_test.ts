/** Whole runs on the clips and the tiny model that the repository carries. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError, UserErrors } from "../../lib/errors.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import type { StepEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { train } from "../../lib/train/trainer.ts";
import { collect, configOf, inScratch } from "./runs.ts";

const steps = (events: readonly TrainEvent[]) => events.filter((event): event is StepEvent => event.type === "step");

function loraBytes(folder: string, step: number): Uint8Array {
  return readFileSync(join(folder, `checkpoint-${step}`, "pytorch_lora_weights.safetensors"));
}

Deno.test("the same command twice, with and without checkpointing, gives identical bits", () =>
  inScratch(async (folder) => {
    const losses: number[][] = [];
    const files: Uint8Array[] = [];
    for (const [name, extra] of [["a", {}], ["b", {}], ["c", { gradient_checkpointing: false }]] as const) {
      const events = await collect(configOf(folder, { output_dir: join(folder, name), ...extra }));
      losses.push(steps(events).map(({ loss }) => loss));
      files.push(loraBytes(join(folder, name), 4));
    }
    assert.equal(losses[0]!.length, 4);
    assert.deepEqual(losses[1], losses[0]);
    assert.deepEqual(losses[2], losses[0]);
    assert.deepEqual(files[1], files[0]);
    assert.deepEqual(files[2], files[0]);
  }));

Deno.test("a second start reuses the cache; a touched clip or prompt rebuilds that entry alone", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 1 });
    const report = async () => {
      rmSync(config.output_dir, { recursive: true, force: true });
      const first = (await collect(config)).find((event) => event.type === "status" && event.message.includes("cache"));
      return (first as { message: string }).message.replace(/^.*: /, "");
    };
    assert.match(await report(), /^0 reused, 8 new, 0 changed/);
    assert.match(await report(), /^8 reused, 0 new, 0 changed/);
    const prompts = join(folder, "clips", "prompts.txt");
    writeFileSync(prompts, readFileSync(prompts, "utf8").replace(/^\S+/, "Suddenly"));
    assert.match(await report(), /^7 reused, 0 new, 1 changed \(prompt of/);
    const clip = join(folder, "clips", readFileSync(join(folder, "clips", "videos.txt"), "utf8").split("\n")[0]!);
    const edited = join(folder, "edited.mp4");
    const flip = ["-v", "error", "-i", clip, "-vf", "hflip", "-c:v", "libx264", edited];
    assert.ok((await new Deno.Command("ffmpeg", { args: flip }).output()).success);
    cpSync(edited, clip);
    assert.match(await report(), /^7 reused, 0 new, 1 changed \(latent of/);
  }));

Deno.test("a resumed run equals an uninterrupted one, bit for bit", () =>
  inScratch(async (folder) => {
    const sizes = { gradient_accumulation_steps: 3, batch_size: 1, train_steps: 5, checkpointing_steps: 2 };
    const extra = { ...sizes, ema_decay: 0.9 };
    const whole = await collect(configOf(folder, { ...extra, output_dir: join(folder, "whole") }));
    const parts = configOf(folder, { ...extra, output_dir: join(folder, "parts") });
    const stop = new AbortController();
    const seen: TrainEvent[] = [];
    for await (const event of train(parts, { signal: stop.signal })) {
      seen.push(event);
      if (event.type === "step" && event.step === 3) stop.abort();
    }
    assert.equal(seen.at(-1)!.type, "finished");
    const rest = await collect({ ...parts, resume_from_checkpoint: "latest" });
    assert.deepEqual([...steps(seen), ...steps(rest)].map(({ loss }) => loss), steps(whole).map(({ loss }) => loss));
    const adapters = ["pytorch_lora_weights.safetensors", "pytorch_lora_weights_ema.safetensors"];
    for (const file of ["state.safetensors", ...adapters]) {
      const read = (name: string) => readFileSync(join(folder, name, "checkpoint-5", file));
      assert.deepEqual(read("parts"), read("whole"), file);
    }
    const lines = (name: string) =>
      readFileSync(join(folder, name, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line))
        .filter(({ type }) => type === "step").map(({ step, loss }) => [step, loss]);
    assert.deepEqual(lines("parts"), lines("whole"));
  }));

Deno.test("a partial last batch counts its samples once", () =>
  inScratch(async (folder) => {
    const events = await collect(configOf(folder, { batch_size: 3, train_steps: 2, learning_rate: 0 }));
    const single = await collect(
      configOf(folder, { output_dir: join(folder, "single"), batch_size: 1, train_steps: 4, learning_rate: 0 }),
    );
    // Four clips: a batch of three and one of one, against four batches of one with the same draws.
    const [three, one] = steps(events).map(({ loss }) => loss);
    const each = steps(single).map(({ loss }) => loss);
    assert.ok(Math.abs(three! - (each[0]! + each[1]! + each[2]!) / 3) < 1e-5 * three!);
    assert.ok(Math.abs(one! - each[3]!) < 1e-5 * one!);
  }));

Deno.test("a LoRA file carries every target with alpha, and metrics every step", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { lora_alpha: 2, mixed_precision: "bf16" });
    await collect(config);
    using file = openSafetensors(join(config.output_dir, "checkpoint-4", "pytorch_lora_weights.safetensors"));
    assert.equal(file.tensors.size, 2 * 4 * 2);
    const metadata = JSON.parse(file.metadata.get("lora_adapter_metadata")!);
    assert.equal(metadata["transformer.lora_alpha"], 2);
    assert.equal(metadata["transformer.r"], 4);
    const records = readFileSync(join(config.output_dir, "metrics.jsonl"), "utf8").trim().split("\n");
    assert.equal(records.filter((line) => JSON.parse(line).type === "step").length, 4);
  }));

Deno.test("mistakes are found before any weight is loaded and leave nothing behind", () =>
  inScratch(async (folder) => {
    const refused = async (overrides: Record<string, unknown>, expected: RegExp) => {
      await assert.rejects(
        () => collect(configOf(folder, overrides)),
        (error: unknown) => error instanceof UserError && expected.test(error.message),
      );
      assert.equal(existsSync(join(folder, "run")), false);
    };
    await refused({ model_path: folder }, /transformer\/config\.json is missing/);
    await refused({ model_path: join(folder, "absent") }, /does not exist/);
    await refused({ resume_from_checkpoint: join(folder, "none") }, /does not exist/);
    await refused({ target_modules: ["to_z"] }, /to_z/);
    writeFileSync(join(folder, "clips", "videos", "ball.mp4"), "not a video");
    writeFileSync(join(folder, "clips", "prompts.txt"), "one\n\nthree\n");
    await assert.rejects(() => collect(configOf(folder)), UserErrors);
    assert.equal(existsSync(join(folder, "run")), false);
  }));

Deno.test("a second run in the same output folder is refused while the first holds it", () =>
  inScratch(async (folder) => {
    const config = configOf(folder);
    const first = train(config);
    for await (const event of first) if (event.type === "started") break;
    const again = train(config);
    const running = train({ ...config, train_steps: 1 });
    let event = await running.next();
    while (!event.done && event.value.type !== "started") event = await running.next();
    await assert.rejects(
      () => again.next(),
      (error: unknown) => error instanceof UserError && /in use/.test(error.message),
    );
    await running.return(undefined);
  }));
