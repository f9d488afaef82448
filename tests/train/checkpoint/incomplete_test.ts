/** Checkpoints that lack a part, or were renamed, and whose manifest says so or was made anew: no run begins from them half-way. */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { commitFolder, manifestName } from "../../../lib/io/commit_folder.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { findCheckpoint, readRunState } from "../../../lib/train/checkpoint/checkpoint.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const sound = { step: 3, applied: 2, lossScale: { value: 65536, goodSteps: 2 } };

/** Counters that lack something or make no sense, and what is said about them. */
const counters: Readonly<Record<string, readonly [unknown, RegExp]>> = {
  "no step": [{ ...sound, step: undefined }, /step is missing, expected a whole number/],
  "a step in words": [{ ...sound, step: "3" }, /step is "3"/],
  "half a step": [{ ...sound, step: 2.5 }, /step is 2\.5/],
  "a step before the first": [{ ...sound, step: -1 }, /step is -1/],
  "no applied steps": [{ ...sound, applied: undefined }, /applied is missing/],
  "more applied steps than steps": [{ ...sound, applied: 4 }, /applied is 4, expected a whole number up to step/],
  "no loss scale": [{ ...sound, lossScale: undefined }, /2 problems[^]*lossScale\.value is missing/],
  "a loss scale of nothing": [
    { ...sound, lossScale: { value: 0, goodSteps: 2 } },
    /lossScale\.value is 0, expected a pos/,
  ],
  "a loss scale without its age": [
    { ...sound, lossScale: { value: 1 } },
    /1 problem[^]*lossScale\.goodSteps is missing/,
  ],
  "a list": [[], /does not hold a JSON object/],
};

Deno.test("counters of a checkpoint are whole, or refused by name", () =>
  withFolder((folder) => {
    const path = join(folder, "trainer.json");
    writeFileSync(path, JSON.stringify(sound));
    assert.deepEqual(readRunState(folder), sound);
    for (const [name, [value, says]] of Object.entries(counters)) {
      writeFileSync(path, JSON.stringify(value));
      assert.throws(
        () => readRunState(folder),
        (error) => error instanceof UserError && says.test(error.message) && error.message.includes(path),
        name,
      );
    }
  }));

Deno.test("a checkpoint that was renamed is not taken for the newest", () =>
  withFolder(async (folder) => {
    const write = (temporary: string) => writeFileSync(join(temporary, "trainer.json"), JSON.stringify(sound));
    await commitFolder(join(folder, "checkpoint-3"), write);
    renameSync(join(folder, "checkpoint-3"), join(folder, "checkpoint-9"));
    await assert.rejects(
      findCheckpoint("latest", folder),
      /checkpoint-9" was renamed: it holds step 3, [^]*Hint: name it checkpoint-3 again/,
    );
    // Named by its path it is what it is.
    assert.equal((await findCheckpoint(join(folder, "checkpoint-9"), folder)).warnings.length, 0);
  }));

Deno.test("a checkpoint without a part of its state is refused, whether the manifest knows it or not", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 1 });
    await collect(config);
    const checkpoint = join(config.output_dir, "checkpoint-1");
    const refused = async (name: string, spoil: (copy: string) => void | Promise<void>, says: RegExp) => {
      const copy = join(folder, name);
      await commitFolder(copy, async (temporary) => {
        cpSync(checkpoint, temporary, { recursive: true });
        rmSync(join(temporary, manifestName));
        await spoil(temporary);
      });
      await assert.rejects(
        collect({ ...config, output_dir: join(folder, "next"), train_steps: 2, resume_from_checkpoint: copy }),
        (error) => error instanceof UserError && says.test(error.message),
        name,
      );
    };
    for (const name of ["state.safetensors", "trainer.json", "config.yaml"]) {
      await refused(`without ${name}`, (copy) => rmSync(join(copy, name)), new RegExp(name.replace(".", "\\.")));
    }
    await refused("without moments", async (copy) => {
      const path = join(copy, "state.safetensors");
      const { tensors, file } = { file: openSafetensors(path), tensors: [...openSafetensors(path).tensors] };
      const kept = tensors.filter(([name]) => name.startsWith("values.")).map(([name, { dtype, shape }]) => {
        return { name, dtype, shape, data: file.readBytes(name) };
      });
      assert.ok(kept.length > 0 && kept.length < tensors.length);
      await writeSafetensors(path, kept);
    }, /Cannot continue from .*problems[^]*"m\.0" is missing/);
    // What a manifest does not list is no part of a checkpoint, and stays.
    writeFileSync(join(checkpoint, "notes.txt"), "mine");
    const more = { ...config, train_steps: 2, resume_from_checkpoint: "latest" } as const;
    await collect(more);
    assert.ok(readdirSync(checkpoint).includes("notes.txt"));
    const path = join(checkpoint, "trainer.json"), text = readFileSync(path, "utf8");
    rmSync(path);
    await assert.rejects(findCheckpoint(checkpoint, config.output_dir), /1 problem\n.*"trainer\.json" is missing/);
    writeFileSync(path, text);
  }));
