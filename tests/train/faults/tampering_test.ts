/** What happens to files behind the back of a run: flipped bits, folders that are removed, another run on the same cache. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheKey, type CacheRequest } from "../../../lib/data/cache/key.ts";
import { SampleCache } from "../../../lib/data/cache/cache.ts";
import { UserError } from "../../../lib/errors.ts";
import { writeFileAtomic } from "../../../lib/io/atomic.ts";
import { commitFolder, manifestName, readManifest, verifyFolder } from "../../../lib/io/commit_folder.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { findCheckpoint } from "../../../lib/train/checkpoint/checkpoint.ts";
import { trainOnGpus } from "../../../lib/train/launch/launch.ts";
import { train } from "../../../lib/train/trainer.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { configOf, inScratch } from "../runs.ts";

/** Flips each bit in `bits` of each byte of a file in turn, and puts the file back. */
async function flipEach(
  path: string,
  bits: (at: number) => readonly number[],
  look: () => Promise<void>,
): Promise<number> {
  const good = readFileSync(path);
  let flips = 0;
  for (const at of good.keys()) {
    for (const bit of bits(at)) {
      const bad = Uint8Array.from(good);
      bad[at]! ^= 1 << bit;
      writeFileSync(path, bad);
      await look();
      flips++;
    }
  }
  writeFileSync(path, good);
  return flips;
}

Deno.test("every flipped bit of a checkpoint is found before it is used", () =>
  withFolder(async (folder) => {
    const path = join(folder, "checkpoint-3");
    const weights = { name: "a", dtype: "F32", shape: [4], data: Float32Array.of(1, 2, 3, 4) } as const;
    const files = await commitFolder(path, async (temporary) => {
      await writeSafetensors(join(temporary, "state.safetensors"), [weights]);
      await writeFileAtomic(join(temporary, "trainer.json"), '{"step":3}\n');
    });
    const isRefused = () => assert.rejects(findCheckpoint(path, folder), UserError);
    for (const { name, size } of files) {
      assert.equal(await flipEach(join(path, name), (at) => [at % 8], isRefused), size);
    }
    // The list itself has no hash: a flip that it survives must leave it saying the same.
    const same = async () => {
      const { problems } = await verifyFolder(path);
      if (problems.length === 0) assert.deepEqual(readManifest(path), files);
    };
    assert.ok(await flipEach(join(path, manifestName), () => [0, 1, 2, 3, 4, 5, 6, 7], same) > 1000);
    assert.equal((await findCheckpoint(path, folder)).path, path);
  }));

Deno.test("every flipped bit of a cache entry is found, and the entry is dropped", () =>
  withFolder(async (folder) => {
    const cache = new SampleCache(folder);
    const request: CacheRequest = { kind: "prompt", name: "p", fields: { prompt: "p" } };
    const tensor = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
    await cache.write(request, tensor);
    const path = cache.pathOf("prompt", cacheKey(request));
    let used = 0;
    await flipEach(path, (at) => [at % 8, (at + 3) % 8], () => {
      const found = cache.read(request);
      // What the entry says for people only is not part of what is used.
      if (found !== undefined) used++;
      assert.deepEqual(found ?? tensor, tensor);
      assert.equal(existsSync(path), found !== undefined);
      return Promise.resolve();
    });
    assert.ok(cache.damaged.length > 3 * used, `${used} of ${used + cache.damaged.length} flips were harmless`);
  }));

Deno.test("an output folder that is removed while training is made anew at the next save, and the run says so", () =>
  inScratch(async (folder) => {
    const expected = configOf(folder, { output_dir: join(folder, "whole") });
    await Array.fromAsync(train(expected));
    const config = configOf(folder, { checkpointing_steps: 2 });
    const warnings: string[] = [];
    for await (const event of train(config)) {
      if (event.type === "step" && event.step === 1) rmSync(config.output_dir, { recursive: true });
      if (event.type === "warning") warnings.push(event.message);
    }
    assert.deepEqual(warnings, [`"${config.output_dir}" was removed with all it held: it is made anew`]);
    assert.deepEqual((await verifyFolder(join(config.output_dir, "checkpoint-2"))).problems, []);
    const [a, b] = [config, expected].map(({ output_dir }) =>
      readFileSync(join(output_dir, "checkpoint-4", "state.safetensors"))
    );
    assert.deepEqual(a, b);
  }));

Deno.test("a dataset that is removed with its cache while training stops the run with the name of a clip", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 2 });
    await assert.rejects(
      async () => {
        for await (const event of train(config)) {
          if (event.type === "saved") rmSync(config.data_root!, { recursive: true });
        }
      },
      (error) =>
        error instanceof UserError && /cached \w+ of "videos\/.*has vanished[^]*latest goes on/.test(error.message),
    );
    assert.equal((await findCheckpoint("latest", config.output_dir)).path, join(config.output_dir, "checkpoint-2"));
  }));

Deno.test("two runs that fill one cache at a time end with the bits of a run alone", () =>
  inScratch(async (folder) => {
    const alone = configOf(folder, { output_dir: join(folder, "alone"), cache_dir: join(folder, "own-cache") });
    await Array.fromAsync(train(alone));
    const names = ["one", "two"];
    const cache_dir = join(folder, "shared-cache");
    const both = names.map((name) => configOf(folder, { output_dir: join(folder, name), cache_dir, gpus: 1 }));
    await Promise.all(both.map((config) => Array.fromAsync(trainOnGpus(config))));
    const state = (name: string) => readFileSync(join(folder, name, "checkpoint-4", "state.safetensors"));
    for (const name of names) assert.deepEqual(state(name), state("alone"), name);
  }));

Deno.test("locks, and what runs note in a cache, are for their user alone", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 1 });
    mkdirSync(config.output_dir);
    const modes = new Map<string, number>();
    for await (const { type } of train(config)) {
      if (type !== "step") continue;
      const cache = join(config.data_root!, "cache"), users = join(cache, "in-use");
      const notes = [...Deno.readDirSync(users)].map(({ name }) => join(users, name));
      assert.equal(notes.length, 1);
      for (const path of [join(config.output_dir, ".lock"), join(cache, ".index.lock"), ...notes]) {
        modes.set(path, statSync(path).mode & 0o777);
      }
    }
    assert.deepEqual([...modes.values()], [0o600, 0o600, 0o600]);
  }));
