/** What a cache is built from decides every byte of it, and what interrupts a build costs the clip that it interrupts. */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import type { CacheEvent, TrainEvent } from "../../../lib/train/report/events.ts";
import { train } from "../../../lib/train/trainer.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const entriesOf = (cache: string) =>
  readdirSync(cache, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".safetensors")).sort();

const cached = (events: readonly TrainEvent[], kind: CacheEvent["kind"]) =>
  events.filter((event): event is CacheEvent => event.type === "cache" && event.kind === kind);

/** Takes the events of a run until one of them is enough, and leaves. */
async function until(events: AsyncIterable<TrainEvent>, isEnough: (event: TrainEvent) => boolean): Promise<void> {
  for await (const event of events) if (isEnough(event)) return;
}

Deno.test("two builds of a cache have the same bytes, and an interrupted one goes on with the clip it was at", () =>
  inScratch(async (folder) => {
    const config = (name: string) =>
      configOf(folder, { train_steps: 1, cache_dir: join(folder, name), output_dir: join(folder, `run-${name}`) });
    await collect(config("one"));
    // The second build is left after its second clip, as a killed process leaves it.
    const stop = { ...config("two"), output_dir: join(folder, "stopped") };
    await until(train(stop), (event) => event.type === "cache" && event.kind === "video" && event.done === 2);
    const before = entriesOf(join(folder, "two")).filter((name) => name.startsWith("latent")).length;
    assert.ok(before >= 2);
    const [first] = cached(await collect(config("two")), "video");
    assert.deepEqual([first!.done, first!.reused, first!.total], [before, before, 4]);
    const names = entriesOf(join(folder, "one"));
    // Four clips and four prompts.
    assert.equal(names.length, 4 + 4);
    assert.deepEqual(entriesOf(join(folder, "two")), names);
    for (const name of names) {
      assert.deepEqual(readFileSync(join(folder, "one", name)), readFileSync(join(folder, "two", name)), name);
    }
  }));

Deno.test("a clip that is replaced after it was looked at is not stored under the name of what it was", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 1 });
    const videos = join(config.data_root!, "videos");
    const [a, b] = readdirSync(videos).sort().map((name) => join(videos, name));
    await assert.rejects(
      until(train(config), (event) => {
        if (event.type === "cache" && event.kind === "prompt" && event.done === event.total) {
          renameSync(b!, a!);
          cpSync(a!, b!);
        }
        return false;
      }),
      (error) => error instanceof UserError && /: has changed since the run began; start again/.test(error.message),
    );
  }));
