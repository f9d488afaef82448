/** Saves that fail while a run goes on: nothing that was saved is lost, nothing that others made is replaced, no bit differs. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { verifyFolder } from "../../../lib/io/commit_folder.ts";
import type { TrainEvent, WarningEvent } from "../../../lib/train/report/events.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";
import { train } from "../../../lib/train/trainer.ts";
import { fill, mountable, withSmallDisk } from "../../io/disks/small_disk.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const warningsOf = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => event.type === "warning" ? [event.message] : []);
const savedOf = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => event.type === "saved" ? [event.step] : []);
const stateOf = (folder: string, step: number) => readFileSync(join(folder, `checkpoint-${step}`, "state.safetensors"));

Deno.test({
  name: "a disk that is full for a while costs warnings and a checkpoint, and neither the run nor a bit of it " +
    "(needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    inScratch((folder) =>
      withSmallDisk(folder, async (disk) => {
        const settings = { train_steps: 6, checkpointing_steps: 2, report_to: "tensorboard" };
        const whole = configOf(folder, { ...settings, output_dir: join(folder, "whole") });
        await collect(whole);
        const config = configOf(folder, { ...settings, output_dir: join(disk, "run") });
        const events: TrainEvent[] = [];
        let free = () => {};
        for await (const event of train(config)) {
          events.push(event);
          if (event.type === "step" && event.step === 1) {
            free = fill(disk);
          }
          if (event.type === "step" && event.step === 4) free();
        }
        assert.deepEqual(savedOf(events), [4, 6]);
        const [notSaved, ...others] = warningsOf(events).filter((message) => message.startsWith("checkpoint-"));
        assert.match(
          notSaved!,
          /^checkpoint-2 is not saved, tried again after step 3: .*\d+ bytes are wanted, \d+ bytes/,
        );
        assert.match(others.join("\n"), /^checkpoint-3 is not saved, tried again after step 5: .*$/);
        assert.deepEqual(stateOf(config.output_dir, 6), stateOf(whole.output_dir, 6));
        const steps = readFileSync(join(config.output_dir, "metrics.jsonl"), "utf8").trimEnd().split("\n")
          .map((line) => JSON.parse(line)).filter(({ type }) => type === "step").map(({ step }) => step);
        assert.deepEqual([steps[0], steps.at(-2), steps.at(-1)], [1, 5, 6]);
        for (const step of [4, 6]) {
          const path = join(config.output_dir, `checkpoint-${step}`);
          assert.deepEqual(await verifyFolder(path), { problems: [], extras: [] });
        }
        assert.deepEqual(readdirSync(config.output_dir).filter((name) => name.startsWith(".checkpoint")), []);
      })
    ),
});

Deno.test({
  name:
    "a disk that fills up while clips are encoded ends the run at once, keeps what is whole, and the next goes on " +
    "(needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    inScratch((folder) =>
      withSmallDisk(folder, async (disk) => {
        const config = configOf(folder, { cache_dir: join(disk, "cache"), train_steps: 1 });
        let free = () => {};
        const encoded: number[] = [];
        const fillUp = async () => {
          for await (const event of train(config)) {
            if (event.type !== "cache" || event.kind !== "video") continue;
            encoded.push(event.done);
            if (event.done === 1) free = fill(disk);
          }
        };
        await assert.rejects(
          fillUp,
          (error) =>
            error instanceof UserError && /latent.* \d+ bytes are wanted, \d+ bytes are free/.test(error.summary),
        );
        // The second clip had no room, and the others were not tried.
        assert.deepEqual(encoded, [0, 1]);
        const kept = readdirSync(join(disk, "cache", "latent"));
        assert.ok(kept.length === 1 && /^[0-9a-f]{64}\.safetensors$/.test(kept[0]!), `${kept}`);
        free();
        const again = await collect(config);
        const [start] = again.filter((event) => event.type === "cache" && event.kind === "video");
        assert.ok(start?.type === "cache" && start.reused === 1 && start.total === 4);
        assert.ok(again.some(({ type }) => type === "finished"));
      })
    ),
});

Deno.test({
  name: "records that a full disk has no room for are a warning each, once, and later ones are whole " +
    "(needs the right to mount)",
  ignore: !mountable,
  fn: () =>
    inScratch((folder) =>
      withSmallDisk(folder, async (disk) => {
        const config = configOf(folder, { output_dir: join(disk, "run"), report_to: "tensorboard" });
        const warnings: string[] = [];
        {
          using records = new RunRecords(config, 0);
          // Longer than the pages of memory that the files end in.
          const event = (message: string) => ({ type: "warning", message: message.repeat(5000) }) as const;
          const write = async (message: string) =>
            void warnings.push(...warningsOf(await records.write(event(message))));
          await write("a");
          const free = fill(disk);
          for (let i = 0; i < 5; i++) await write("b");
          warnings.push(...warningsOf(await records.sync()));
          free();
          await write("c");
        }
        const told = warnings.filter((text) => /^metrics\.jsonl is not written: .*the disk is full/.test(text));
        assert.equal(told.length, 1);
        assert.ok(warnings.length <= 2, "the page is the other");
        const lines = readFileSync(join(config.output_dir, "metrics.jsonl"), "utf8").trimEnd().split("\n");
        assert.equal(lines.map((line) => (JSON.parse(line) as WarningEvent).message[0]).join(""), "ac");
      })
    ),
});

for (
  const [name, settings] of [["one rank", {}], ["two ranks with sharded state", { gpus: 2, zero_stage: 2 }]] as const
) {
  Deno.test(`what somebody else has put in the place of a checkpoint is kept, and the run saves later: ${name}`, () =>
    inScratch(async (folder) => {
      const config = configOf(folder, { train_steps: 4, checkpointing_steps: 2, training_type: "sft", ...settings });
      mkdirSync(config.output_dir);
      const theirs = join(config.output_dir, "checkpoint-2");
      writeFileSync(theirs, "mine");
      const events = await collect(config);
      assert.deepEqual(savedOf(events), [3, 4]);
      const expected =
        /^checkpoint-2 is not saved, .*checkpoint-2" exists and holds no manifest\.json: it was not made/;
      assert.equal(warningsOf(events).filter((message) => expected.test(message)).length, 1);
      assert.equal(readFileSync(theirs, "utf8"), "mine");
      for (const step of [3, 4]) {
        assert.deepEqual((await verifyFolder(join(config.output_dir, `checkpoint-${step}`))).problems, []);
      }
    }));
}

Deno.test("the last save that fails ends a run of two ranks with the reason, which the first rank alone knows", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2, checkpointing_steps: 1, gpus: 2 });
    mkdirSync(config.output_dir);
    for (const step of [1, 2]) writeFileSync(join(config.output_dir, `checkpoint-${step}`), "mine");
    await assert.rejects(
      collect(config),
      (error) => error instanceof UserError && /checkpoint-2" exists and holds no manifest\.json/.test(error.message),
    );
  }));

Deno.test("a folder `best` and later checkpoints that no run has made are refused before anything is computed", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 2, checkpointing_steps: 1 });
    await collect(config);
    const { output_dir } = config;
    const refused = (more: Record<string, unknown>, expected: RegExp) =>
      assert.rejects(
        collect({ ...config, train_steps: 3, resume_from_checkpoint: "latest", ...more }),
        (error) => error instanceof UserError && expected.test(error.message),
      );
    mkdirSync(join(output_dir, "best"));
    writeFileSync(join(output_dir, "best", "pictures.txt"), "mine");
    const heldout = { heldout_root: join(folder, "clips"), heldout_steps: 1, keep_best: true };
    await refused(heldout, /best" exists and holds no manifest\.json.*\nHint: move it away/);
    assert.equal(readFileSync(join(output_dir, "best", "pictures.txt"), "utf8"), "mine");
    rmSync(join(output_dir, "best"), { recursive: true });
    mkdirSync(join(output_dir, "checkpoint-3"));
    await refused({}, /checkpoint-3" exists and holds no manifest\.json/);
    assert.ok(existsSync(join(output_dir, "checkpoint-3")));
  }));
