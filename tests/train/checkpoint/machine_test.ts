/** A checkpoint says what has computed it; another card, driver, engine or version continues it, and the run says so. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commitFolder, manifestName } from "../../../lib/io/commit_folder.ts";
import { readRunState, type RunMachine } from "../../../lib/train/checkpoint/checkpoint.ts";
import { machineChanges, machineOf } from "../../../lib/train/checkpoint/run_machine.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { testDevice } from "../../kernels/run.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const told = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => event.type === "warning" && /without a break/.test(event.message) ? [event.message] : []);

Deno.test("a run goes on with another driver or version, says what is another, and saves what it is now", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { train_steps: 1, checkpointing_steps: 1 });
    await collect(config);
    const last = join(config.output_dir, "checkpoint-1");
    const machine = readRunState(last).machine!;
    assert.equal(machine.runtime, `Deno ${Deno.version.deno}`);
    const from = join(folder, "checkpoint-1");
    await commitFolder(from, (temporary) => {
      cpSync(last, temporary, { recursive: true });
      rmSync(join(temporary, manifestName));
      const state = JSON.parse(readFileSync(join(temporary, "trainer.json"), "utf8"));
      const before = { ...machine, gpu: "another card, driver 1", runtime: "Deno 1.0.0" };
      writeFileSync(join(temporary, "trainer.json"), JSON.stringify({ ...state, machine: before }));
    });
    const continued = (checkpoint: string, name: string) =>
      collect({ ...config, train_steps: 2, resume_from_checkpoint: checkpoint, output_dir: join(folder, name) });
    const [line, ...more] = told(await continued(from, "other"));
    assert.deepEqual(more, []);
    assert.match(line!, /: another card, driver 1 before, .+ here; Deno 1\.0\.0 before, Deno [\d.]+ here$/);
    assert.deepEqual(readRunState(join(folder, "other", "checkpoint-2")).machine, machine);
    assert.deepEqual(told(await continued(last, "same")), []);
    const weights = (name: string) =>
      readFileSync(join(folder, name, "checkpoint-2", "pytorch_lora_weights.safetensors"));
    assert.deepEqual(weights("other"), weights("same"));
  }));

Deno.test("card, engine, driver and versions each count, and a checkpoint that does not know them is like any", async () => {
  const { device } = await testDevice();
  const machine = machineOf(device.adapter);
  assert.ok(machine.gpu.includes(device.adapter.description) && machine.gpu.includes(device.adapter.engine));
  const folder = Deno.makeTempDirSync();
  try {
    const counters = { step: 1, applied: 1, lossScale: { value: 1, goodSteps: 0 } };
    const changes = (saved: RunMachine | undefined) => {
      writeFileSync(join(folder, "trainer.json"), JSON.stringify({ ...counters, machine: saved }));
      return machineChanges(folder, machine).length;
    };
    assert.equal(changes(undefined), 0);
    assert.equal(changes(machine), 0);
    for (const part of ["gpu", "runtime", "program"] as const) assert.equal(changes({ ...machine, [part]: "x" }), 1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
