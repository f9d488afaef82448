/** Several processes train what one does: the same bits with the canonical sum, and within rounding with the ring. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../../lib/config/config.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { trainOnGpus } from "../../../lib/train/launch/launch.ts";
import { PeerError } from "../../../lib/comm/exchange/communicator.ts";
import { UserError } from "../../../lib/errors.ts";
import { latestValid } from "../../../lib/io/checkpoints.ts";
import { processesWith } from "../../comm/launch/runs.ts";
import { relativeL2 } from "../../kernels/run.ts";
import { collect, configOf, inScratch } from "../runs.ts";

async function run(config: TrainConfig): Promise<number[]> {
  const events = await collect(config);
  assert.equal(events.at(-1)!.type, "finished");
  return events.flatMap((event) => event.type === "step" ? [event.loss] : []);
}

/** A run of `ranks` processes with four micro-batches per step in all. */
function ranked(folder: string, name: string, ranks: number, extra: Record<string, unknown> = {}): TrainConfig {
  const output_dir = join(folder, name);
  return configOf(folder, {
    gpus: ranks,
    gradient_accumulation_steps: 4 / ranks,
    checkpointing_steps: 1,
    train_steps: 3,
    output_dir,
    ...extra,
  });
}

const WEIGHTS = "diffusion_pytorch_model.safetensors";

function state(folder: string, name: string, step: number): Uint8Array {
  return readFileSync(join(folder, name, `checkpoint-${step}`, "state.safetensors"));
}

Deno.test("canonical sums give 1, 2 and 4 ranks the same bits, for adapters and for all weights", () =>
  inScratch(async (folder) => {
    for (const training_type of ["lora", "sft"]) {
      const extra = { reduction: "canonical", training_type };
      const losses = await run(ranked(folder, `${training_type}-1`, 1, extra));
      for (const ranks of training_type === "lora" ? [2, 4] : [2]) {
        assert.deepEqual(await run(ranked(folder, `${training_type}-${ranks}`, ranks, extra)), losses);
        assert.deepEqual(state(folder, `${training_type}-${ranks}`, 3), state(folder, `${training_type}-1`, 3));
      }
    }
  }));

Deno.test("a run continues with another number of ranks: 1, 2, 4 and 1 give the bits of one", () =>
  inScratch(async (folder) => {
    const extra = { reduction: "canonical" };
    await run(ranked(folder, "whole", 1, { ...extra, train_steps: 4 }));
    await run(ranked(folder, "parts", 1, { ...extra, train_steps: 1 }));
    for (const [step, ranks] of [[2, 2], [3, 4], [4, 1]] as const) {
      await run(ranked(folder, "parts", ranks, { ...extra, train_steps: step, resume_from_checkpoint: "latest" }));
    }
    assert.deepEqual(state(folder, "parts", 4), state(folder, "whole", 4));
  }));

Deno.test("the ring equals one process within 1e-5", () =>
  inScratch(async (folder) => {
    const one = await run(ranked(folder, "one", 1));
    const two = await run(ranked(folder, "two", 2));
    assert.ok(relativeL2(two, one) <= 1e-5);
    using expected = openSafetensors(join(folder, "one", "checkpoint-3", "state.safetensors"));
    using actual = openSafetensors(join(folder, "two", "checkpoint-3", "state.safetensors"));
    for (const name of expected.tensors.keys()) {
      const error = relativeL2(actual.readF32(name), expected.readF32(name));
      assert.ok(error <= 1e-5, `${name}: ${error}`);
    }
  }));

Deno.test("sharded optimizer state and parameters change no bit, with and without offload", () =>
  inScratch(async (folder) => {
    const sft = { training_type: "sft", reduction: "canonical", mixed_precision: "bf16", max_grad_norm: 0.05 };
    const losses = await run(ranked(folder, "one", 1, sft));
    const weights = (name: string) => readFileSync(join(folder, name, "checkpoint-3", "transformer", WEIGHTS));
    for (const zero_stage of [2, 3]) {
      for (const offload_optimizer of [false, true]) {
        const name = `zero${zero_stage}-${offload_optimizer}`;
        const extra = { zero_stage, offload_optimizer, ...(zero_stage === 3 ? { base_weights: "streamed" } : {}) };
        assert.deepEqual(await run(ranked(folder, name, 2, { ...sft, ...extra })), losses, name);
        assert.deepEqual(state(folder, name, 3), state(folder, "one", 3), name);
        assert.deepEqual(weights(name), weights("one"), name);
      }
    }
  }));

Deno.test("a sharded run continues on one rank and the other way round; the ring is within 1e-5", () =>
  inScratch(async (folder) => {
    const sft = { training_type: "sft", reduction: "canonical", mixed_precision: "bf16" };
    await run(ranked(folder, "whole", 1, sft));
    await run(ranked(folder, "parts", 4, { ...sft, zero_stage: 2, train_steps: 1 }));
    await run(ranked(folder, "parts", 1, { ...sft, train_steps: 2, resume_from_checkpoint: "latest" }));
    await run(ranked(folder, "parts", 2, { ...sft, zero_stage: 3, train_steps: 3, resume_from_checkpoint: "latest" }));
    assert.deepEqual(state(folder, "parts", 3), state(folder, "whole", 3));
    const ring = await run(ranked(folder, "ring", 2, { ...sft, reduction: "ring", zero_stage: 2 }));
    assert.ok(relativeL2(ring, await run(ranked(folder, "ring-one", 1, { ...sft, reduction: "ring" }))) <= 1e-5);
  }));

/** Videos, page, samples and held-out losses of a run, without what depends on time and folder. */
async function checksOf(config: TrainConfig): Promise<Record<string, unknown>> {
  const events = await collect(config);
  const videos = join(config.output_dir, "validation_res");
  const names = readdirSync(videos).sort();
  for (const event of events) {
    if (event.type !== "step") continue;
    assert.equal(event.ranks?.length, config.gpus > 1 ? config.gpus : undefined);
    for (const { seconds } of event.ranks ?? []) assert.ok(seconds > 0);
    const [first] = event.ranks ?? [];
    if (first === undefined) continue;
    assert.equal(first.gpuBytes, event.gpuBytes);
    assert.ok(first.seconds <= event.secondsPerStep);
  }
  return {
    files: names.map((name) => [name, createHash("sha256").update(readFileSync(join(videos, name))).digest("hex")]),
    samples: events.flatMap((event) =>
      event.type === "sample" ? [[event.step, event.prompt, event.path.slice(config.output_dir.length)]] : []
    ),
    heldOut: events.filter(({ type }) => type === "heldout"),
    warnings: events.flatMap((event) =>
      event.type === "warning" && /validation/.test(event.message) ? [event.message] : []
    ),
  };
}

Deno.test("ranks share validation and held-out clips out, and give the files and losses of one", () =>
  inScratch(async (folder) => {
    cpSync(join(folder, "clips"), join(folder, "held"), { recursive: true });
    // Three for two ranks: in the last round one has nothing to sample. That the second is cut, rank 1 alone finds out.
    const prompts = ["a ball bounces", "a sunset ".repeat(200), "a ball bounces"];
    writeFileSync(join(folder, "list.txt"), prompts.join("\n"));
    const checks = {
      reduction: "canonical",
      train_steps: 1,
      do_validation: true,
      validation_dir: folder,
      validation_prompts: "list.txt",
      validation_steps: 1,
      num_inference_steps: 1,
      heldout_root: join(folder, "held"),
    };
    const sft = { training_type: "sft", mixed_precision: "bf16" };
    const expected = await checksOf(ranked(folder, "one", 1, { ...checks, ...sft }));
    assert.equal((expected.files as unknown[]).length, 2 * prompts.length + 1);
    assert.equal((expected.heldOut as unknown[]).length, 2);
    assert.equal((expected.warnings as unknown[]).length, 1);
    const sharded = { ...checks, ...sft, zero_stage: 3, base_weights: "streamed" };
    assert.deepEqual(await checksOf(ranked(folder, "two", 2, sharded)), expected);
  }));

Deno.test("a mistake of the user reaches the launcher as one, whichever rank found it", () =>
  inScratch(async (folder) => {
    await assert.rejects(
      () => run(ranked(folder, "wrong", 2, { target_modules: ["to_z"] })),
      (error: unknown) => error instanceof UserError && /to_z/.test(error.message),
    );
  }));

Deno.test("a rank that is killed is named, and the last checkpoint is whole", () =>
  inScratch(async (folder) => {
    const config = ranked(folder, "killed", 2, { train_steps: 500 });
    const kill = () => {
      const ranks = processesWith("rank_start.ts", folder);
      assert.equal(ranks.length, 2);
      Deno.kill(ranks[1]!, "SIGKILL");
    };
    await assert.rejects(
      async () => {
        let saved = 0;
        for await (const event of trainOnGpus(config)) {
          if (event.type === "saved" && ++saved === 2) kill();
        }
      },
      (error: unknown) => error instanceof PeerError && /rank [01] was killed by SIGKILL/.test(error.message),
    );
    const { checkpoint, damaged } = await latestValid(config.output_dir);
    assert.ok(checkpoint!.step >= 2);
    assert.deepEqual(damaged, []);
  }));
