import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanLeftovers, latestValid, listCheckpoints, pruneCheckpoints } from "../../lib/io/checkpoints.ts";
import { commitFolder } from "../../lib/io/commit_folder.ts";
import { faultyOperations, withFolder } from "./faulty_operations.ts";

async function makeCheckpoints(folder: string, steps: number[]): Promise<void> {
  for (const step of steps) {
    await commitFolder(
      join(folder, `checkpoint-${step}`),
      (temporary) => writeFileSync(join(temporary, "state"), `step ${step}`),
    );
  }
}

const stepsIn = (folder: string) => listCheckpoints(folder).map(({ step }) => step);
const damage = (folder: string, step: number) => writeFileSync(join(folder, `checkpoint-${step}`, "state"), "xtep 0");

Deno.test("listCheckpoints: by step, without decoys", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [100, 20, 3]);
    writeFileSync(join(folder, "checkpoint-100.safetensors"), "");
    writeFileSync(join(folder, "checkpoint-7"), "a file");
    for (const name of ["checkpoint-final", "checkpoint--1", "checkpoint-05", "checkpoint-1e3", "ckpt-5"]) {
      mkdirSync(join(folder, name));
    }
    symlinkSync(join(folder, "checkpoint-3"), join(folder, "checkpoint-900"));
    assert.deepEqual(stepsIn(folder), [3, 20, 100]);
    assert.deepEqual(stepsIn(join(folder, "none")), []);
  }));

Deno.test("latestValid: the newest good one, with what is wrong with newer ones", () =>
  withFolder(async (folder) => {
    assert.deepEqual(await latestValid(folder), { checkpoint: undefined, damaged: [] });
    await makeCheckpoints(folder, [1, 2, 3, 4]);
    damage(folder, 3);
    rmSync(join(folder, "checkpoint-4", "manifest.json"));
    const { checkpoint, damaged } = await latestValid(folder);
    assert.equal(checkpoint?.step, 2);
    assert.deepEqual(damaged.map(({ step }) => step), [4, 3]);
    assert.match(damaged[1]!.problems[0]!, /SHA-256/);
  }));

Deno.test("pruneCheckpoints: keeps the newest, never counts or deletes damaged ones", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [1, 2, 3, 4, 5]);
    damage(folder, 5);
    const removed = await pruneCheckpoints(folder, 2);
    assert.deepEqual(removed.map(({ step }) => step), [1, 2]);
    assert.deepEqual(stepsIn(folder), [3, 4, 5]);
    assert.deepEqual(await pruneCheckpoints(folder, 10), []);
    await pruneCheckpoints(folder, 1);
    assert.deepEqual(stepsIn(folder), [4, 5]);
    assert.deepEqual(readdirSync(folder).sort(), ["checkpoint-4", "checkpoint-5"]);
  }));

Deno.test("pruneCheckpoints: the last good one survives when all newer ones are damaged", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [1, 2, 3]);
    damage(folder, 2);
    damage(folder, 3);
    await pruneCheckpoints(folder, 1);
    assert.equal((await latestValid(folder)).checkpoint?.step, 1);
  }));

Deno.test("pruneCheckpoints: trusts the one just committed", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [1, 2]);
    await pruneCheckpoints(folder, 1, { committed: join(folder, "checkpoint-2") });
    assert.deepEqual(stepsIn(folder), [2]);
  }));

Deno.test("pruneCheckpoints: a kill at every operation leaves whole checkpoints", () =>
  withFolder(async (parent) => {
    for (let at = 1; at <= 4; at++) {
      const folder = join(parent, String(at));
      mkdirSync(folder);
      await makeCheckpoints(folder, [1, 2, 3]);
      await assert.rejects(pruneCheckpoints(folder, 1, { operations: faultyOperations({ at, kind: "KILL" }) }));
      cleanLeftovers(folder);
      assert.deepEqual(stepsIn(folder), [[1, 2, 3], [2, 3], [2, 3], [3]][at - 1]);
      const { checkpoint, damaged } = await latestValid(folder);
      assert.equal(checkpoint?.step, 3);
      assert.deepEqual(damaged, []);
    }
  }));

Deno.test("pruneCheckpoints: a run that went back keeps what it commits, and what an earlier one made beyond", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [1, 2, 5, 6]);
    await pruneCheckpoints(folder, 1, { committed: join(folder, "checkpoint-2") });
    assert.deepEqual(stepsIn(folder), [2, 5, 6]);
  }));

Deno.test("pruneCheckpoints: a limit below 1 is refused", () =>
  withFolder(async (folder) => {
    for (const limit of [0, -1, 1.5, NaN]) await assert.rejects(pruneCheckpoints(folder, limit), RangeError);
    assert.equal(existsSync(folder), true);
  }));

Deno.test("pruning and clearing up that fail name what they could not remove, and lose nothing", () =>
  withFolder(async (folder) => {
    await makeCheckpoints(folder, [1, 2]);
    const failing = (at: number) => faultyOperations({ at, kind: "EACCES" });
    const oldest = join(folder, "checkpoint-1");
    const refused = new RegExp(`Cannot remove "${oldest}": permission denied`);
    for (const at of [1, 2]) await assert.rejects(pruneCheckpoints(folder, 1, { operations: failing(at) }), refused);
    assert.equal((await latestValid(folder)).checkpoint?.step, 2);
    assert.throws(() => cleanLeftovers(folder, failing(1)), /Cannot clear up ".*\.checkpoint-1\.trash-.*": permission/);
    assert.equal(cleanLeftovers(folder).length, 1);
    assert.deepEqual(readdirSync(folder), ["checkpoint-2"]);
  }));
