/** Runs whose output lies in the folder of their clips: what they make is no clip. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { lockFolder } from "../../../lib/io/lock.ts";
import { withFolder } from "../media.ts";

function put(...paths: string[]): void {
  for (const path of paths) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, "a clip");
  }
}

Deno.test("videos of a run in the folder of the clips, or in one below it, are not trained on", () =>
  withFolder(async (folder) => {
    put(join(folder, "a.mp4"), join(folder, "validation_res", "b.mp4"));
    const names = async () => {
      const { items, warnings } = await readDataset(folder, { prompt: "p" });
      return { names: items.map(({ name }) => name), warnings };
    };
    assert.deepEqual(await names(), { names: ["a.mp4", "validation_res/b.mp4"], warnings: [] });
    // The lock of a run tells its folder, also after it has ended.
    lockFolder(folder)[Symbol.dispose]();
    const run = join(folder, "runs", "one");
    lockFolder(run)[Symbol.dispose]();
    put(join(run, "validation_res", "c.mp4"), join(run, "d.mp4"), join(folder, "runs", "e.mp4"));
    assert.deepEqual(await names(), {
      names: ["a.mp4", "runs/e.mp4"],
      warnings: ["runs/one: is the folder of a run, and its videos are left out"],
    });
  }));
