/**
 * A run that is killed anywhere and continued ends with the bits of a run that never stopped. Eight places in the normal suite,
 * all of them with the environment variable COGTUNE_FULL.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readManifest } from "../../../lib/io/commit_folder.ts";
import { fromFileUrl } from "../../paths.ts";
import type { KillOrder } from "./kill_program.ts";
import { examples, inScratch } from "../runs.ts";

const program = fromFileUrl("./kill_program.ts", import.meta.url);
const full = Deno.env.has("COGTUNE_FULL");

/** Runs at one time: more would only share the cores. */
const WORKERS = 2;

/** Where a run dies, and the checkpoint that the next one must continue from; 0 is the beginning. */
interface Place {
  readonly name: string;
  readonly points: readonly string[];
  readonly from: number;
  /** Part of the normal suite for this variant. */
  readonly quick?: string;
  /** The run fills a cache of its own, instead of using the one an earlier run has filled. */
  readonly ownCache?: boolean;
  /** Where the run that continues dies too. */
  readonly again?: readonly string[];
}

/**
 * Three clips in two micro-steps per optimizer step: epochs of two steps, the second with one clip. Checkpoints 3, in the middle
 * of an epoch, 6 and 8, the end; two are kept.
 */
const places: readonly Place[] = [
  { name: "encoding the second clip", points: ["event cache video 1", "gpu"], from: 0, ownCache: true },
  {
    name: "in a cache entry",
    points: ["event cache prompt 0", ...Array(3).fill("write cache/prompt/#.safetensors.tmp")],
    from: 0,
    ownCache: true,
    quick: "LoRA f32",
  },
  {
    name: "before a cache entry gets its name",
    points: ["event cache video 0", "rename cache/latent/#.safetensors.tmp to cache/latent/#.safetensors"],
    from: 0,
    ownCache: true,
  },
  { name: "before the table of the cache", points: ["create cache/index.json.tmp"], from: 0, ownCache: true },
  { name: "encoding validation prompts", points: ["event cache video 3", "gpu"], from: 0 },
  { name: "in the validation before the first step", points: ["event started 0", "gpu", "gpu"], from: 0 },
  { name: "in the accumulation of step 1", points: ["event sample 0", "micro", "micro"], from: 0 },
  { name: "before the update of step 2", points: ["event step 1", "update"], from: 0 },
  { name: "at the end of an epoch", points: ["event step 2"], from: 0 },
  { name: "before the first checkpoint", points: ["make run/checkpoint-3.tmp"], from: 0 },
  {
    name: "between the files of the first checkpoint",
    points: ["create run/checkpoint-3.tmp/trainer.json.tmp"],
    from: 0,
  },
  { name: "right after a save", points: ["event saved 3"], from: 3 },
  {
    name: "in an accumulation in the middle of an epoch",
    points: ["event step 4", "micro", "micro"],
    from: 3,
    quick: "LoRA f32",
  },
  {
    name: "before the update of step 5",
    points: ["event step 4", "update"],
    from: 3,
    quick: "SFT fp16, offloaded",
  },
  {
    name: "in the state file",
    points: Array(3).fill("write run/checkpoint-6.tmp/state.safetensors.tmp"),
    from: 3,
    quick: "SFT bf16",
  },
  {
    name: "before the state file gets its name",
    points: ["rename run/checkpoint-6.tmp/state.safetensors.tmp to run/checkpoint-6.tmp/state.safetensors"],
    from: 3,
  },
  {
    name: "between two files of a checkpoint",
    points: ["create run/checkpoint-6.tmp/config.yaml.tmp"],
    from: 3,
    quick: "LoRA fp16, streamed",
  },
  { name: "before the manifest", points: ["create run/checkpoint-6.tmp/manifest.json.tmp"], from: 3 },
  {
    name: "before a checkpoint gets its name",
    points: ["rename run/checkpoint-6.tmp to run/checkpoint-6"],
    from: 3,
    quick: "LoRA bf16",
  },
  {
    name: "before the name of a checkpoint is on disk",
    points: ["rename run/checkpoint-6.tmp to run/checkpoint-6", "sync run"],
    from: 6,
  },
  { name: "denoising in a validation", points: ["event saved 6", "gpu"], from: 6, quick: "SFT f32" },
  {
    name: "on the page of a validation",
    points: ["event saved 6", "write run/validation_res/index.html.tmp"],
    from: 6,
  },
  { name: "right after a validation", points: ["event sample 6"], from: 6 },
  { name: "in the accumulation of step 7", points: ["event sample 6", "micro", "micro"], from: 6 },
  {
    name: "between commit and pruning",
    points: ["rename run/checkpoint-8.tmp to run/checkpoint-8", "rename run/checkpoint-3 to run/checkpoint-3.trash"],
    from: 8,
  },
  { name: "in pruning", points: ["remove run/checkpoint-3.trash"], from: 8, quick: "LoRA f32" },
  { name: "in the last validation", points: ["event saved 8", "gpu", "gpu"], from: 8 },
  { name: "after the last event", points: ["event finished 8"], from: 8 },
  {
    name: "twice, in two saves",
    points: ["create run/checkpoint-6.tmp/manifest.json.tmp"],
    again: ["event step 6", "create run/checkpoint-6.tmp/state.safetensors.tmp"],
    from: 3,
  },
];

const variants: Readonly<Record<string, string>> = {
  "LoRA f32": "training_type: lora\nrank: 4\nmixed_precision: no",
  "LoRA bf16": "training_type: lora\nrank: 4\nmixed_precision: bf16",
  "SFT bf16": "training_type: sft\nmixed_precision: bf16",
  "SFT f32": "training_type: sft\nmixed_precision: no",
  // The factor on the loss is part of what continues, and masters and moments lie in host memory.
  "LoRA fp16, streamed":
    "training_type: lora\nrank: 4\nmixed_precision: fp16\nbase_weights: streamed\noffload_optimizer: true",
  "SFT fp16, offloaded": "training_type: sft\nmixed_precision: fp16\noffload_optimizer: true",
};

function configText(folder: string, variant: string, { cache, resume }: { cache: string; resume: string }): string {
  return `
model_path: ${join(examples, "tiny-2b")}
model_name: cogvideox-t2v
${variants[variant]}
data_root: ${join(folder, "..", "clips")}
cache_dir: ${cache}
output_dir: ${join(folder, "run")}
${resume === "" ? "" : `resume_from_checkpoint: ${resume}`}
train_resolution: 9x32x48
learning_rate: 0.001
lr_warmup_steps: 2
gradient_accumulation_steps: 2
train_epochs: 4
checkpointing_steps: 3
checkpointing_limit: 2
do_validation: true
validation_dir: ${join(folder, "..", "clips")}
validation_prompts: validation.txt
validation_steps: 6
num_inference_steps: 1
`;
}

/** Runs the program; returns the points it passed. It must die if and only if there are points to die at. */
async function run(order: KillOrder): Promise<string[]> {
  const command = new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--quiet", program, JSON.stringify(order)] });
  const { signal, success, stdout, stderr } = await command.output();
  const passed = new TextDecoder().decode(stdout).trimEnd().split("\n");
  const dies = order.points.length > 0;
  const report = () => `${[...passed.slice(-8), new TextDecoder().decode(stderr)].join("\n")}`;
  assert.ok(dies ? signal === "SIGKILL" : success, report());
  if (dies) assert.equal(passed.at(-1), order.points.at(-1));
  return passed;
}

/** Three clips with their prompts, and a prompt to validate with. */
function prepareClips(folder: string): void {
  for (const list of ["videos.txt", "prompts.txt"]) {
    const lines = readFileSync(join(folder, list), "utf8").split("\n").slice(0, 3);
    writeFileSync(join(folder, list), `${lines.join("\n")}\n`);
  }
  writeFileSync(join(folder, "validation.txt"), "a ball bounces\n");
}

/** Everything a run leaves that must not depend on interruptions. */
function outcome(folder: string): Record<string, unknown> {
  const output = join(folder, "run"), last = join(output, "checkpoint-8"), videos = join(output, "validation_res");
  const files = readManifest(last).filter(({ name }) => name !== "config.yaml");
  const steps = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line))
    .filter(({ type }) => type === "step").map((
      { time: _time, secondsPerStep: _seconds, flopsPerSecond: _rate, peakShare: _share, ...record },
    ) => record);
  return {
    files,
    steps,
    // What was recorded before a run that reached no checkpoint lies aside under a number.
    names: readdirSync(output).filter((name) => !/^metrics\.\d+\.jsonl$/.test(name)).sort(),
    videos: readdirSync(videos).filter((name) => name.endsWith(".mp4")).sort()
      .map((name) => [name, createHash("sha256").update(readFileSync(join(videos, name))).digest("hex")]),
  };
}

/** Kills a run at a place, continues it to its end, and returns the folder. */
async function interrupted(root: string, variant: string, place: Place): Promise<string> {
  const folder = join(root, place.name.replaceAll(" ", "-"));
  const cache = place.ownCache ? join(folder, "cache") : join(root, "cache");
  await run({ folder, points: place.points, config: configText(folder, variant, { cache, resume: "" }) });
  const config = configText(folder, variant, { cache, resume: place.from === 0 ? "" : "latest" });
  if (place.again !== undefined) await run({ folder, points: place.again, config });
  const passed = await run({ folder, points: [], config });
  assert.ok(passed.includes(`event started ${place.from}`), `${passed.find((point) => point.includes("started"))}`);
  return folder;
}

/** Goes back to an earlier checkpoint, dies while the last one is replaced, and continues from the one that was put back. */
async function replaced(folder: string, variant: string, expected: Record<string, unknown>): Promise<void> {
  const cache = join(folder, "..", "cache"), checkpoint = join(folder, "run", "checkpoint-8");
  await run({
    folder,
    points: ["rename run/checkpoint-8 to run/checkpoint-8.old", "rename run/checkpoint-8.tmp to run/checkpoint-8"],
    config: configText(folder, variant, { cache, resume: join(folder, "run", "checkpoint-6") }),
  });
  assert.equal(existsSync(checkpoint), false);
  const passed = await run({ folder, points: [], config: configText(folder, variant, { cache, resume: "latest" }) });
  assert.ok(passed.includes("event started 8"));
  assert.deepEqual(outcome(folder), expected);
}

for (const variant of Object.keys(variants)) {
  Deno.test(`${variant}: killed anywhere and continued, a run ends with the same bits`, (test) =>
    inScratch(async (root) => {
      prepareClips(join(root, "clips"));
      const whole = join(root, "whole"), cache = join(root, "cache");
      await run({ folder: whole, points: [], config: configText(whole, variant, { cache, resume: "" }) });
      const expected = outcome(whole);
      assert.deepEqual((expected.steps as { step: number }[]).map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8]);
      const chosen = places.filter(({ quick }) => full || quick === variant);
      const left = [...chosen.entries()];
      const ends: (() => string)[] = [];
      const worker = async () => {
        for (let next = left.shift(); next !== undefined; next = left.shift()) {
          const [i, place] = next;
          ends[i] = await interrupted(root, variant, place).then((folder) => () => folder, (error) => () => {
            throw error;
          });
        }
      };
      await Promise.all(Array.from({ length: WORKERS }, worker));
      for (const [i, { name }] of chosen.entries()) {
        await test.step(name, () => assert.deepEqual(outcome(ends[i]!()), expected));
      }
      if (variant === "LoRA f32") {
        await test.step("while a checkpoint is replaced", () => replaced(whole, variant, expected));
      }
    }));
}
