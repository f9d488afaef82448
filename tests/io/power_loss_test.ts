/** No loss of power costs a checkpoint: every state that a disk may be left in has a whole one, and recovery finds the newest. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { cleanLeftovers, latestValid, pruneCheckpoints } from "../../lib/io/checkpoints.ts";
import { commitFolder } from "../../lib/io/commit_folder.ts";
import type { FileOperations } from "../../lib/io/file_operations.ts";
import { random } from "../comm/launch/chaos.ts";
import { withFolder } from "./faulty_operations.ts";
import { Disk } from "./power_loss.ts";

/** States per operation: 11,000 in all with COGTUNE_FULL. */
const STATES = Deno.env.has("COGTUNE_FULL") ? 150 : 4;

function writer(text: string, operations: FileOperations): (folder: string) => Promise<void> {
  return async (folder) => {
    await writeFileAtomic(join(folder, "state.json"), text, { operations });
    operations.makeFolder(join(folder, "transformer"));
    await writeFileAtomic(join(folder, "transformer", "weights.bin"), `${text} weights`, { operations });
  };
}

/** What is done with a folder that holds `checkpoint-1` of the text "one"; `saved` is called when the text "two" is safe. */
type Work = (folder: string, operations: FileOperations, saved: () => void) => Promise<void>;

const works: Readonly<Record<string, Work>> = {
  "a second checkpoint and the removal of the first": async (folder, operations, saved) => {
    const path = join(folder, "checkpoint-2");
    await commitFolder(path, writer("two", operations), { operations });
    saved();
    await pruneCheckpoints(folder, 1, { committed: path, operations });
  },
  "a checkpoint in place of one of the same step": async (folder, operations, saved) => {
    const path = join(folder, "checkpoint-1");
    await commitFolder(path, writer("two", operations), { operations, replace: true });
    saved();
  },
};

for (const [name, work] of Object.entries(works)) {
  Deno.test(`no loss of power during ${name} costs a checkpoint`, () =>
    withFolder(async (root) => {
      const folder = join(root, "run");
      mkdirSync(folder);
      const disk = new Disk(folder);
      const { operations } = disk;
      await commitFolder(join(folder, "checkpoint-1"), writer("one", operations), { operations });
      const choose = random(1);
      const states: { readonly path: string; readonly saved: boolean }[] = [];
      let saved = false;
      const lose = () => {
        for (let i = 0; i < STATES; i++) {
          const path = join(root, `state-${states.length}`);
          disk.lose(path, choose);
          states.push({ path, saved });
        }
      };
      disk.onOperation = lose;
      await work(folder, operations, () => {
        saved = true;
        lose();
      });
      assert.ok(disk.count > 40 && states.length > 25 * STATES);
      const found = new Set<string>();
      for (const { path, saved } of states) {
        cleanLeftovers(path);
        const { checkpoint } = await latestValid(path);
        assert.ok(checkpoint !== undefined, `${path} has no whole checkpoint`);
        const text = readFileSync(join(checkpoint.path, "state.json"), "utf8");
        assert.ok(text === "two" || (text === "one" && !saved), `${path} holds "${text}"`);
        assert.equal(readFileSync(join(checkpoint.path, "transformer", "weights.bin"), "utf8"), `${text} weights`);
        found.add(text);
        rmSync(path, { recursive: true });
      }
      assert.deepEqual([...found].sort(), ["one", "two"]);
    }));
}
