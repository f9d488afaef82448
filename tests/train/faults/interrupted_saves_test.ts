/**
 * SIGTERM at the file operations of a save: the save is finished, the run ends with the exit code of the signal, and the newest
 * checkpoint is whole and the only one. At three operations in the normal suite, at each with COGTUNE_FULL.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseTemporaryName } from "../../../lib/io/atomic.ts";
import { latestValid, listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { fromFileUrl } from "../../paths.ts";
import { examples, inScratch } from "../runs.ts";
import type { KillOrder } from "./kill_program.ts";

const program = fromFileUrl("./kill_program.ts", import.meta.url);

/** Operations that are interrupted in the normal suite. */
const FEW = 3;

/** Four steps, saved after the second and the fourth; the first checkpoint goes when the second is there. */
function configText(folder: string): string {
  return `
model_path: ${join(examples, "tiny-2b")}
model_name: cogvideox-t2v
rank: 4
data_root: ${join(folder, "..", "clips")}
cache_dir: ${join(folder, "..", "cache")}
output_dir: ${join(folder, "run")}
train_resolution: 9x32x48
train_steps: 4
checkpointing_steps: 2
checkpointing_limit: 1
`;
}

/** How the program ended, and the points it passed. */
interface Ended {
  readonly code: number;
  readonly passed: readonly string[];
  readonly error: string;
}

async function run(folder: string, points: readonly string[]): Promise<Ended> {
  const order: KillOrder = { folder, points, config: configText(folder), signal: "SIGTERM" };
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", program, JSON.stringify(order)],
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, passed: text(stdout).trimEnd().split("\n"), error: text(stderr) };
}

Deno.test("a signal at any file operation of a save leaves the save whole and ends the run with its code", () =>
  inScratch(async (root) => {
    const whole = await run(join(root, "whole"), []);
    assert.equal(whole.code, 0, whole.error);
    const { passed } = whole;
    // From the first change of a save to what is told when it is done, with the removal of the checkpoint before it.
    const operations = [2, 4].flatMap((step) => {
      const first = passed.indexOf(`make run/checkpoint-${step}.tmp`);
      return Array.from(
        { length: passed.indexOf(`event saved ${step}`) - first },
        (_, i) => passed.slice(first, first + i + 1),
      );
    });
    assert.ok(operations.length > 60, `${operations.length}`);
    assert.ok(operations.some((points) => points.at(-1) === "remove run/checkpoint-2.trash"));
    const chosen = Deno.env.has("COGTUNE_FULL")
      ? operations
      : Array.from({ length: FEW }, (_, i) => operations[Math.round(i * (operations.length - 1) / (FEW - 1))]!);
    for (const [i, points] of chosen.entries()) {
      const folder = join(root, `${i}`), output = join(folder, "run");
      const { code, passed, error } = await run(folder, points);
      const where = `at ${points.at(-1)}, ${i}: ${error}`;
      const finished = Number(/^event finished (\d+)$/.exec(passed.at(-1)!)?.[1]);
      // A signal that comes with the end of a run may be too late for it.
      assert.ok(code === 143 || (code === 0 && finished === 4), `${where}\nexit code ${code} after step ${finished}`);
      const { checkpoint, damaged } = await latestValid(output);
      assert.deepEqual([checkpoint?.step, damaged], [finished, []], where);
      assert.ok(finished >= Number(/checkpoint-(\d+)/.exec(points[0]!)![1]), `${where}\nstep ${finished}`);
      assert.equal(listCheckpoints(output).length, 1, where);
      assert.deepEqual(readdirSync(output).filter((name) => parseTemporaryName(name) !== undefined), [], where);
    }
  }));
