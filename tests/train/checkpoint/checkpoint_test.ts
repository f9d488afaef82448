/** A checkpoint is added before others go, and a state that does not fit changes nothing. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserErrors } from "../../../lib/errors.ts";
import type { Session } from "../../../lib/gpu/session.ts";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { verifyFolder } from "../../../lib/io/commit_folder.ts";
import { readRunState, restoreState, saveCheckpoint } from "../../../lib/train/checkpoint/checkpoint.ts";
import type { StateEntry } from "../../../lib/train/checkpoint/state_entries.ts";

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** An entry of so many f32, all of them `value`; what is restored into it is kept. */
function entryOf(name: string, shape: readonly number[], value = 0) {
  const size = shape.reduce((product, length) => product * length, 1);
  const restored: number[] = [];
  const entry: StateEntry = {
    name,
    shape,
    dtype: "f32",
    read: () => Promise.resolve(new Uint8Array(new Float32Array(size).fill(value).buffer)),
    restore: (bytes) => void restored.push(...new Float32Array(bytes(0, 4 * size).buffer)),
  };
  return { entry, restored };
}

const lossScale = { value: 4, goodSteps: 3 };

function save(folder: string, step: number, writeModel: (folder: string) => Promise<void>, limit = 2) {
  const entries = [entryOf("values.0", [4], step).entry, entryOf("values.1", [2, 4], -step).entry];
  return saveCheckpoint(folder, {
    entries,
    state: { step, applied: step - 1, lossScale },
    config: "",
    writeModel,
    limit,
  });
}

const model = (folder: string) => Promise.resolve(writeFileSync(join(folder, "model"), "weights"));

for (const limit of [1, 2]) {
  Deno.test(`as many checkpoints are kept as asked, and all of them when the next can't be written: ${limit}`, () =>
    withFolder(async (folder) => {
      const kept = () => listCheckpoints(folder).map(({ step }) => step);
      for (const step of [1, 2, 3]) await save(folder, step, model, limit);
      assert.deepEqual(kept(), [2, 3].slice(-limit));
      const failing = () => Promise.reject(new Error("the disk is full"));
      await assert.rejects(save(folder, 4, failing, limit), /the disk is full/);
      assert.deepEqual(kept(), [2, 3].slice(-limit));
      for (const step of kept()) {
        assert.deepEqual((await verifyFolder(join(folder, `checkpoint-${step}`))).problems, []);
      }
    }));
}

Deno.test("a state goes back where it came from, with its counters", () =>
  withFolder(async (folder) => {
    const { path } = await save(folder, 5, model);
    const [first, second] = [entryOf("values.0", [4]), entryOf("values.1", [2, 4])];
    const session = { flush: () => Promise.resolve() } as unknown as Session;
    await restoreState(path, session, [second.entry, first.entry]);
    assert.deepEqual([first.restored, second.restored], [[5, 5, 5, 5], new Array(8).fill(-5)]);
    assert.deepEqual(readRunState(path), { step: 5, applied: 4, lossScale });
  }));

Deno.test("a state of other tensors is refused before any of them is taken", () =>
  withFolder(async (folder) => {
    const { path } = await save(folder, 5, model);
    const session = { flush: () => Promise.resolve() } as unknown as Session;
    const cases: readonly (readonly [readonly [string, readonly number[]][], RegExp])[] = [
      [[["values.0", [4]], ["values.1", [4, 2]]], /"values\.1" has shape \[2,4\]: this run needs \[4,2\]/],
      [[["values.0", [4]], ["values.2", [2, 4]]], /"values\.2" is missing/],
      [[["values.0", [4]]], /it holds 2 tensors, this run has 1/],
    ];
    for (const [shapes, message] of cases) {
      const entries = shapes.map(([name, shape]) => entryOf(name, shape));
      const expected = (error: unknown) => error instanceof UserErrors && message.test(error.message);
      await assert.rejects(restoreState(path, session, entries.map(({ entry }) => entry)), expected);
      assert.ok(entries.every(({ restored }) => restored.length === 0));
    }
  }));
