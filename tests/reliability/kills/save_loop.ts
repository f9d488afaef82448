/**
 * Saves checkpoints as a run does, as fast as it can, until it is killed: a checkpoint of the next step, those beyond two removed,
 * the folder `best` replaced. Argument: the folder. Prints `begin`, then every step whose checkpoint is saved.
 */
import { join } from "node:path";
import { writeFileAtomic } from "../../../lib/io/atomic.ts";
import { checkpointName, cleanLeftovers, latestValid, pruneCheckpoints } from "../../../lib/io/checkpoints.ts";
import { commitFolder } from "../../../lib/io/commit_folder.ts";
import { lockFolder } from "../../../lib/io/lock.ts";

/** The weights of a step: a length and content of its own. */
export function weightsOf(step: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(20_000 + (step * 7919) % 80_000);
  for (let i = 0, state = step; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

if (import.meta.main) {
  const folder = Deno.args[0]!;
  const say = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  using _lock = lockFolder(folder);
  cleanLeftovers(folder);
  const { checkpoint } = await latestValid(folder);
  if (checkpoint !== undefined) await pruneCheckpoints(folder, 2, { committed: checkpoint.path });
  say("begin");
  for (let step = (checkpoint?.step ?? 0) + 1;; step++) {
    const write = async (temporary: string) => {
      await writeFileAtomic(join(temporary, "weights.bin"), weightsOf(step));
      await writeFileAtomic(join(temporary, "trainer.json"), `${JSON.stringify({ step })}\n`);
    };
    const path = join(folder, checkpointName(step));
    await commitFolder(path, write, { replace: true });
    say(`${step}`);
    await pruneCheckpoints(folder, 2, { committed: path });
    await commitFolder(join(folder, "best"), write, { replace: true });
    await writeFileAtomic(join(folder, "index.html"), `<p>step ${step}</p>\n`);
  }
}
