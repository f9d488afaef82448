/** Steps that stand out: told with the median that they are held against, by arithmetic, and once a window. */
import assert from "node:assert/strict";
import { type StepParts, UnusualSteps } from "../../../lib/train/checks/unusual_steps.ts";
import type { StepEvent } from "../../../lib/train/report/events.ts";
import { TrainingStep } from "../../../lib/step/training_step.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const PARTS: StepParts = { clips: ["a.mp4", "b.mp4"], reading: 0, waiting: 0 };

/** What is told of steps with these norms and seconds, by step. */
class Told {
  readonly #steps = new UnusualSteps();
  #step = 0;

  next(gradNorm: number, secondsPerStep = 1, parts: Partial<StepParts> = {}, ranks?: StepEvent["ranks"]): string[] {
    const event = { type: "step", step: ++this.#step, gradNorm, secondsPerStep, ranks } as StepEvent;
    return this.#steps.look(event, { ...PARTS, ...parts }).map(({ message }) => message);
  }

  /** Steps without anything to tell. */
  usual(count: number, gradNorm = 1, secondsPerStep = 1): this {
    for (let i = 0; i < count; i++) assert.deepEqual(this.next(gradNorm, secondsPerStep), []);
    return this;
  }
}

Deno.test("a norm above ten times the median of the steps before is told with its clips, once a window", () => {
  const told = new Told().usual(15, 2);
  assert.deepEqual(told.next(1000), [], "fifteen steps make no median");
  told.usual(48, 2);
  assert.deepEqual(told.next(20), []);
  const [message] = told.next(20.5);
  assert.match(message!, /^step 66: the norm of the gradients, 20\.5, is 10 times the median .*, on a\.mp4, b\.mp4: /);
  assert.match(message!, /lower learning_rate, or set max_grad_norm: 1/);
  for (let i = 0; i < 20; i++) assert.deepEqual(told.next(i % 2 === 0 ? 500 : 2), []);
  told.usual(43, 2);
  assert.deepEqual(told.next(500), [], "step 130 is within 64 of step 66");
  assert.equal(told.next(500).length, 1);
});

Deno.test("the median follows the last 64 steps", () => {
  const told = new Told().usual(64, 1).usual(64, 9);
  assert.deepEqual(told.next(89), []);
  assert.match(told.next(91)[0]!, /is 10 times the median/);
});

Deno.test("a step of five times the median and ten seconds more is told with the parts of its time", () => {
  const told = new Told().usual(20);
  assert.deepEqual(told.next(1, 10.9), []);
  assert.deepEqual(new Told().usual(20, 1, 30).next(1, 149), []);
  const slow = (parts: Partial<StepParts>, ranks?: StepEvent["ranks"]) =>
    new Told().usual(20).next(1, 100, parts, ranks)[0]!;
  assert.match(
    slow({ reading: 80, waiting: 5 }),
    /^step 21 took 100\.0 s, 100 times the median .*: 80\.0 s reading clips, 5\.0 s waiting for other ranks, 15\.0 s GPU, driver and memory; cache_dir/,
  );
  const ranks = [{ seconds: 1, gpuBytes: 0 }, { seconds: 99, gpuBytes: 0 }];
  assert.match(slow({ waiting: 98 }, ranks), /98\.0 s waiting for other ranks, 2\.0 s .*; look at rank 1$/);
  assert.match(slow({}), /: 100\.0 s GPU, driver and memory; other programs may use the GPU.*swap/);
});

Deno.test("a run tells of a spike in its gradients, and goes on", () =>
  inScratch(async (folder) => {
    const { update } = TrainingStep.prototype;
    let updates = 0;
    try {
      TrainingStep.prototype.update = async function (...options) {
        const result = await update.apply(this, options);
        return ++updates === 17 ? { ...result, gradientNorm: 1e6 } : result;
      };
      const events = await collect(configOf(folder, { train_steps: 18, checkpointing_steps: 18 }));
      const warnings = events.flatMap((event) => event.type === "warning" ? [event.message] : []);
      assert.equal(
        warnings.filter((message) => /^step 17: the norm of the gradients, 1\.00e\+6, is /.test(message)).length,
        1,
      );
      assert.equal(events.at(-1)!.type, "finished");
    } finally {
      TrainingStep.prototype.update = update;
    }
  }));
