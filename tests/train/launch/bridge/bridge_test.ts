/** Every event and every error crosses the bridge unchanged, from a worker and from ranks; who leaves the loop leaves nothing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { resolveConfig, type TrainConfig } from "../../../../lib/config/config.ts";
import { PeerError } from "../../../../lib/comm/exchange/communicator.ts";
import { UserError } from "../../../../lib/errors.ts";
import { listCheckpoints } from "../../../../lib/io/checkpoints.ts";
import { lockFolder } from "../../../../lib/io/lock.ts";
import { trainForProgram } from "../../../../lib/train/launch/launch.ts";
import { rankEvents } from "../../../../lib/train/launch/ranks.ts";
import { workerEvents } from "../../../../lib/train/launch/worker.ts";
import type { TrainEvent } from "../../../../lib/train/report/events.ts";
import { processesWith } from "../../../comm/launch/runs.ts";
import { HUNG, until } from "../../../patience.ts";
import { configOf, inScratch } from "../../runs.ts";
import { ENDS, PEER_FAILED, SENT, STOPPED, THROWN } from "./messages.ts";

const TRANSPORTS = [
  ["a worker", workerEvents, "worker_program.ts", 1],
  ["ranks", rankEvents, "rank_program.ts", 2],
] as const;

/** What arrives, and what is thrown in the end. */
async function received(events: AsyncIterable<TrainEvent>): Promise<{ events: TrainEvent[]; thrown?: unknown }> {
  const arrived: TrainEvent[] = [];
  try {
    for await (const event of events) arrived.push(event);
  } catch (thrown) {
    return { events: arrived, thrown };
  }
  return { events: arrived };
}

function fakeConfig(seed: number, gpus: number): TrainConfig {
  return resolveConfig("preset: 5b-lora", { overrides: { seed, gpus } }).config;
}

/** Compares class, every property and where it was thrown. The stack's last lines are of the loading of a module. */
function assertSame(actual: unknown, expected: unknown): void {
  if (Array.isArray(expected)) return expected.forEach((inner, i) => assertSame((actual as unknown[])[i], inner));
  if (!(expected instanceof Error)) return assert.deepEqual(actual, expected);
  assert.ok(actual instanceof Error);
  const { name, message, stack, constructor } = expected;
  assert.equal(actual.constructor, constructor.name === "StorageError" ? UserError : constructor);
  assert.equal(actual.name, name);
  assert.equal(actual.message, message);
  assert.deepEqual(actual.stack!.split("\n").slice(0, 2), stack!.split("\n").slice(0, 2));
  for (const key of Object.getOwnPropertyNames(expected).filter((key) => key !== "stack")) {
    assertSame(actual[key as keyof Error], expected[key as keyof Error]);
  }
  assert.deepEqual(Object.keys(actual), Object.keys(expected));
}

for (const [name, eventsOf, program, gpus] of TRANSPORTS) {
  const module = new URL(program, import.meta.url);

  Deno.test(`${name}: every event and every error arrives as it was sent`, async () => {
    for (const [seed, expected] of THROWN.entries()) {
      const { events, ...end } = await received(eventsOf(module, fakeConfig(seed, gpus)));
      assert.deepEqual(events.slice(0, SENT.length), SENT);
      assert.ok("thrown" in end);
      assertSame(end.thrown, expected);
      const named = gpus > 1 && !(expected instanceof UserError);
      const rest = events.slice(SENT.length).map((event) => event.type === "warning" ? event.message : event.type);
      assert.match(rest.join("\n"), named ? /^rank [01] failed with exit code 1$/ : /^$/);
    }
    const end = await received(eventsOf(module, fakeConfig(ENDS, gpus)));
    assert.deepEqual(end, { events: SENT });
  });

  Deno.test(`${name}: who stops a run gets the reason of the own signal back`, async () => {
    const stop = new AbortController();
    const run = eventsOf(module, fakeConfig(STOPPED, gpus), { signal: stop.signal });
    await run.next();
    stop.abort();
    const { thrown } = await received(run);
    assert.equal(thrown, stop.signal.reason);
  });
}

Deno.test("ranks: who stops a run whose ranks are starting gets the reason too", async () => {
  const stop = AbortSignal.abort();
  const run = rankEvents(new URL("rank_program.ts", import.meta.url), fakeConfig(STOPPED, 2), { signal: stop });
  // While the second is started the first may have got as far as telling events.
  assert.equal((await received(run)).thrown, stop.reason);
});

Deno.test("ranks that end because of others leave the error to the launcher", async () => {
  const module = new URL("rank_program.ts", import.meta.url);
  const { events, thrown } = await received(rankEvents(module, fakeConfig(PEER_FAILED, 2)));
  assert.deepEqual(events.at(-1), { type: "warning", message: "rank 1: barrier stopped: rank 0 is gone" });
  assert.ok(thrown instanceof PeerError);
});

const mistake = new Error("of the caller");

function isFree(folder: string): boolean {
  try {
    lockFolder(folder)[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}

/** Ways to leave a loop over events at its first step. */
const LEAVINGS: Readonly<Record<string, (events: AsyncIterable<TrainEvent>) => Promise<void>>> = {
  async break(events) {
    for await (const { type } of events) if (type === "step") break;
  },
  async return(events) {
    for await (const { type } of events) if (type === "step") return;
  },
  throw: (events) =>
    assert.rejects(async () => {
      for await (const { type } of events) if (type === "step") throw mistake;
    }, mistake),
};

for (const [who, gpus] of [["the worker", 1], ["the ranks", 2]] as const) {
  Deno.test(`leaving the loop ends ${who} within seconds`, () =>
    inScratch(async (folder) => {
      for (const [way, leave] of Object.entries(LEAVINGS)) {
        const config = configOf(folder, { gpus, train_steps: 10_000, output_dir: join(folder, way) });
        const seen = { ranks: 0, time: 0 };
        await leave(async function* () {
          for await (const event of trainForProgram(config)) {
            Object.assign(seen, { ranks: processesWith("rank_start.ts", folder).length, time: performance.now() });
            yield event;
          }
        }());
        // Its 10,000 steps would take half an hour on a quick machine.
        assert.ok(performance.now() - seen.time < HUNG, way);
        assert.equal(seen.ranks, gpus === 1 ? 0 : gpus, way);
        assert.deepEqual(processesWith("rank_start.ts", folder), [], way);
        // Whoever trains holds the lock of the output folder, a worker in a slow step for longer than it is waited for.
        await until(() => isFree(config.output_dir), `the end of who trained: ${way}`);
        assert.deepEqual(listCheckpoints(config.output_dir), [], way);
      }
    }));
}
