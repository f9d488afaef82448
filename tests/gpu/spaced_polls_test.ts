/** Polls of an addon's wait, on a simulated event loop whose turns take 10 µs and whose timers are 1 ms late. */
import assert from "node:assert/strict";
import { spacedPolls, type Timers } from "../../lib/gpu/spaced_polls.ts";

/** Runs callbacks in the order of their times until there are none. */
class EventLoop implements Timers {
  #time = 0;
  #queue: { at: number; run: () => unknown }[] = [];

  setImmediate = (run: (...args: unknown[]) => unknown, ...args: unknown[]) =>
    void this.#queue.push({ at: this.#time, run: () => run(...args) });
  setTimeout = (run: () => unknown, milliseconds: number) =>
    void this.#queue.push({ at: this.#time + milliseconds + 1, run });
  now = () => this.#time;

  run(): void {
    for (let next; (next = this.#queue.sort((a, b) => a.at - b.at).shift()) !== undefined;) {
      this.#time = Math.max(this.#time + 0.01, next.at);
      next.run();
    }
  }
}

/** Waits as Dawn does until `milliseconds` have passed: polls made, and how late the last one was. */
function wait(milliseconds: number): { polls: number; late: number } {
  const loop = new EventLoop();
  const setImmediate = spacedPolls(loop);
  let polls = 0;
  const poll = () => {
    polls++;
    // A proxy has no text either.
    if (loop.now() < milliseconds) setImmediate(new Proxy(() => poll(), {}));
  };
  setImmediate(new Proxy(() => poll(), {}));
  loop.run();
  return { polls, late: loop.now() - milliseconds };
}

Deno.test("a wait ends late by a sixteenth or 9 ms at most, after few polls", () => {
  for (const milliseconds of [0.1, 1, 10, 100, 1000, 4000]) {
    const { polls, late } = wait(milliseconds);
    assert.ok(late <= Math.min(milliseconds / 16 + 1, 9) + 0.02, `${milliseconds} ms ended ${late} ms late`);
    // 9 ms apart, and before that in geometric progression from 10 µs on.
    assert.ok(polls <= milliseconds / 9 + 200, `${polls} polls in ${milliseconds} ms`);
  }
});

Deno.test("callbacks of others run in the next turn with their arguments", () => {
  const loop = new EventLoop();
  const setImmediate = spacedPolls(loop);
  const calls: unknown[][] = [];
  setImmediate(
    new Proxy(() => {
      for (let i = 0; i < 1000; i++) {
        setImmediate((...args: unknown[]) => calls.push([loop.now() < 15, ...args]), 1, "two");
      }
    }, {}),
  );
  loop.run();
  assert.equal(calls.length, 1000);
  for (const call of calls) assert.deepEqual(call, [true, 1, "two"]);
});
