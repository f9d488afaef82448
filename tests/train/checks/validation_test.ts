/** Videos and held-out loss during training: they are made, and they change nothing. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HeldOutEvent, MemoryEvent, SampleEvent, TrainEvent } from "../../../lib/train/report/events.ts";
import { train, trainAsRank } from "../../../lib/train/trainer.ts";
import { type Communicator, longPhase } from "../../../lib/comm/exchange/communicator.ts";
import { createSingle } from "../../../lib/comm/exchange/single.ts";
import { configOf, inScratch } from "../runs.ts";

async function run(config: Parameters<typeof trainAsRank>[0]): Promise<TrainEvent[]> {
  const single = createSingle();
  let deadline: number | undefined;
  const communicator: Communicator = {
    ...single,
    allGather(data, options) {
      deadline = options?.deadline;
      return single.allGather(data, options);
    },
  };
  const events: TrainEvent[] = [];
  for await (const event of trainAsRank(config, communicator)) {
    // A rank that has done its share waits here for the others, who may still sample.
    if (event.type === "sample" || event.type === "heldout") assert.equal(deadline, longPhase, event.type);
    events.push(event);
  }
  return events;
}

const losses = (events: readonly TrainEvent[]) => events.flatMap((e) => e.type === "step" ? [e.loss] : []);

Deno.test("validation and held-out loss run before step 1, at their intervals and at the end, and change no bit", () =>
  inScratch(async (folder) => {
    cpSync(join(folder, "clips"), join(folder, "held"), { recursive: true });
    writeFileSync(join(folder, "list.txt"), "a ball bounces\na sunset\n");
    const checks = {
      do_validation: true,
      validation_dir: folder,
      validation_prompts: "list.txt",
      validation_steps: 2,
      num_inference_steps: 2,
      heldout_root: join(folder, "held"),
      heldout_steps: 3,
    };
    const base = { checkpointing_steps: 2 };
    const plain = await run(configOf(folder, { ...base, output_dir: join(folder, "plain") }));
    const config = configOf(folder, { ...base, ...checks, output_dir: join(folder, "checked") });
    const checked = await run(config);
    assert.deepEqual(losses(checked), losses(plain));
    const state = (name: string) => readFileSync(join(folder, name, "checkpoint-4", "state.safetensors"));
    assert.deepEqual(state("checked"), state("plain"));

    const samples = checked.filter((event): event is SampleEvent => event.type === "sample");
    assert.deepEqual(samples.map(({ step }) => step), [0, 0, 2, 2, 4, 4]);
    for (const { path } of samples) assert.ok(existsSync(path), path);
    // What was allocated at the fullest is what the plan says, phase by phase.
    const phases = checked.filter((event): event is MemoryEvent => event.type === "memory");
    const fullest = new Map(phases.map((event) => [event.phase, event]));
    assert.deepEqual([...fullest.keys()].slice(-2).sort(), ["training", "validation"]);
    for (const phase of ["training", "validation"]) {
      assert.equal(fullest.get(phase)!.gpuBytes, fullest.get(phase)!.plannedBytes, phase);
    }
    const page = readFileSync(join(config.output_dir, "validation_res", "index.html"), "utf8");
    assert.equal([...page.matchAll(/<video/g)].length, 6);
    assert.deepEqual([...page.matchAll(/<th>Step (\d+)/g)].map((match) => match[1]), ["0", "2", "4"]);
    const memory = (events: readonly TrainEvent[]) => events.flatMap((e) => e.type === "step" ? [e.gpuBytes] : []);
    assert.deepEqual(memory(checked), memory(plain));

    const measured = checked.filter((event): event is HeldOutEvent => event.type === "heldout");
    assert.deepEqual(measured.map(({ step }) => step), [0, 3, 4]);
    assert.deepEqual(measured[0]!.bands.map(({ from, to }) => [from, to]), [[0, 249], [250, 499], [500, 749], [
      750,
      999,
    ]]);
    assert.ok(measured[2]!.loss < measured[0]!.loss, "clips equal to the trained ones are predicted better in the end");
    const again = await run(
      configOf(folder, { ...checks, train_steps: 1, do_validation: false, output_dir: join(folder, "again") }),
    );
    assert.deepEqual(again.find(({ type }) => type === "heldout"), measured[0]);
  }));

Deno.test("an error in validation is a warning and training goes on", () =>
  inScratch(async (folder) => {
    writeFileSync(join(folder, "list.txt"), "a ball\n");
    const config = configOf(folder, {
      do_validation: true,
      validation_dir: folder,
      validation_prompts: "list.txt",
      validation_steps: 200,
      num_inference_steps: 1,
    });
    // A file where the folder of videos should be made.
    const events: TrainEvent[] = [];
    for await (const event of train(config)) {
      if (event.type === "status" && !existsSync(join(config.output_dir, "validation_res"))) {
        writeFileSync(join(config.output_dir, "validation_res"), "");
      }
      events.push(event);
    }
    assert.equal(losses(events).length, 4);
    assert.ok(
      events.some((e) => e.type === "warning" && /validation after step 0 failed, training goes on/.test(e.message)),
    );
    assert.equal(events.at(-1)!.type, "finished");
  }));
