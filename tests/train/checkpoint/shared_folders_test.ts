/** Folders that serve for several things at once, or go by two names: what a run removes is only ever its own. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { assertUntouched, listing } from "../../bad_input/command.ts";
import { collect, configOf, inScratch } from "../runs.ts";

/** Names that look like what a run makes and clears away, and are none of it. */
const OTHERS = [
  "checkpoint-1.zip",
  "checkpoint-final/notes.txt",
  "latent/mine.safetensors",
  "prompt/prompts.txt",
  "photos/a.jpg",
  ".checkpoint-1.tmp-mine",
  "index.json.old",
];

/** Trains with one checkpoint kept and a cache that is cleared; checks that what was there before is there. */
async function trainBeside(folder: string, settings: Readonly<Record<string, unknown>>): Promise<void> {
  const before = listing(join(folder, "clips"));
  const own =
    /(^|\/)(checkpoint-\d+|latent|prompt|in-use|index\.html|index\.json|file-hashes\.json|metrics\.jsonl|\.\w*\.?lock)/;
  const run = { train_steps: 2, checkpointing_steps: 1, checkpointing_limit: 1, cache_limit: 0, ...settings };
  const config = configOf(folder, run);
  await collect(config);
  assertUntouched(join(folder, "clips"), before, own);
  assert.deepEqual(listCheckpoints(config.output_dir).map(({ step }) => step), [2]);
}

Deno.test("an output folder that is a link, lies in the dataset or is the dataset or the cache costs nobody a file", () =>
  inScratch(async (folder) => {
    const clips = join(folder, "clips"), work = join(clips, "work");
    for (const name of OTHERS) {
      for (const path of [join(work, name), join(clips, name)]) {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, "mine");
      }
    }
    symlinkSync(work, join(folder, "link"));
    await trainBeside(folder, { output_dir: join(folder, "link"), cache_dir: work });
    // The link and what it leads to are one folder to the next run.
    const more = {
      output_dir: work,
      cache_dir: join(folder, "link"),
      train_steps: 3,
      resume_from_checkpoint: "latest",
    };
    const events = await collect(configOf(folder, { checkpointing_limit: 1, cache_limit: 0, ...more }));
    assert.ok(events.some((event) => event.type === "started" && event.step === 2));
    assert.deepEqual(listCheckpoints(work).map(({ step }) => step), [3]);
    await trainBeside(folder, { output_dir: clips, cache_dir: clips });
  }));
