/** When a run saves, and how long it goes on when it cannot. */
import assert from "node:assert/strict";
import { UserError } from "../../../lib/errors.ts";
import { SaveSchedule } from "../../../lib/train/checkpoint/save_schedule.ts";

const full = new UserError("the disk is full", "free space");

/** Steps after which a run of `total` steps tries to save when the disk is full after the steps `isFull`. */
function attempts(schedule: SaveSchedule, total: number, isFull: (step: number) => boolean): (number | string)[] {
  const tried: (number | string)[] = [];
  for (let step = 1; step <= total; step++) {
    if (!schedule.isDue(step)) continue;
    tried.push(step);
    if (!isFull(step)) schedule.succeeded();
    else {
      try {
        schedule.failed(step, full);
      } catch (error) {
        assert.equal(error, full);
        return [...tried, "ends"];
      }
    }
  }
  return tried;
}

Deno.test("saves come at the interval and at the end, and those that fail are tried again at growing distances", () => {
  assert.deepEqual(attempts(new SaveSchedule(10, 25), 25, () => false), [10, 20, 25]);
  assert.deepEqual(attempts(new SaveSchedule(10, 25), 25, (step) => step < 15), [10, 11, 13, 17, 20, 25]);
  assert.deepEqual(attempts(new SaveSchedule(10, 25), 25, (step) => step === 10), [10, 11, 20, 25]);
});

Deno.test("a run ends when two regular saves in a row fail, and when its last does", () => {
  assert.deepEqual(attempts(new SaveSchedule(10, 25), 25, () => true), [10, 11, 13, 17, 20, "ends"]);
  assert.deepEqual(attempts(new SaveSchedule(1, 25), 25, () => true), [1, 2, "ends"]);
  assert.deepEqual(attempts(new SaveSchedule(10, 25), 25, (step) => step === 25), [10, 20, 25, "ends"]);
});

Deno.test("a save that fails is told with its reason, its remedy and what comes next", () => {
  const { message } = new SaveSchedule(10, 25).failed(10, full);
  assert.equal(message, "checkpoint-10 is not saved, tried again after step 11: the disk is full; free space");
});
