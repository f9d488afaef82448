/**
 * A host that kills the process again and again: every start continues from the newest save, no start goes back behind it, each
 * that lives until its next save has moved on, and the last one ends with the bits of a run that was left alone. Five kills in
 * the normal suite, 50 with COGTUNE_FULL.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { latestValid } from "../../../lib/io/checkpoints.ts";
import { fromFileUrl } from "../../paths.ts";
import { examples, inScratch } from "../runs.ts";
import type { KillOrder } from "./kill_program.ts";

const program = fromFileUrl("./kill_program.ts", import.meta.url);

const KILLS = Deno.env.has("COGTUNE_FULL") ? 50 : 5;

/** Steps between two saves. */
const INTERVAL = 2;

/** Where a start that continues from a step is killed, and how far the newest save is then. */
type Death = (from: number) => readonly [points: readonly string[], saved: number];

const DEATHS: readonly Death[] = [
  (from) => [[`event saved ${from + INTERVAL}`], from + INTERVAL],
  (from) => [[`event started ${from}`, "micro"], from],
  (from) => [[`event step ${from + INTERVAL}`, `create run/checkpoint-${from + INTERVAL}.tmp/manifest.json.tmp`], from],
  (from) => [[`event step ${from + 1}`, "update"], from],
  (from) => {
    const name = `run/checkpoint-${from + INTERVAL}`;
    return [[`rename ${name}.tmp to ${name}`, "sync run"], from + INTERVAL];
  },
];

/** Steps until which KILLS starts come, and some that the last one makes. */
const STEPS = DEATHS.reduce((saved, death) => saved + death(0)[1], 0) * Math.ceil(KILLS / DEATHS.length) + 1;

function configText(folder: string, name: string, resume: boolean): string {
  return `
model_path: ${join(examples, "tiny-2b")}
model_name: cogvideox-t2v
data_root: ${join(folder, "clips")}
cache_dir: ${join(folder, "cache")}
output_dir: ${join(folder, name)}
${resume ? "resume_from_checkpoint: latest" : ""}
train_resolution: 9x32x48
rank: 2
learning_rate: 0.001
lr_warmup_steps: 2
train_steps: ${STEPS}
checkpointing_steps: ${INTERVAL}
checkpointing_limit: 2
`;
}

/** Starts a run, which dies at the last of the points; returns the step that it began at. */
async function start(order: KillOrder): Promise<number> {
  const { signal, success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", program, JSON.stringify(order)],
  }).output();
  const passed = new TextDecoder().decode(stdout);
  assert.ok(
    order.points.length > 0 ? signal === "SIGKILL" : success,
    passed.slice(-300) + new TextDecoder().decode(stderr),
  );
  return Number(/^event started (\d+)$/m.exec(passed)![1]);
}

Deno.test("a run that is killed again and again never goes back behind a save, and ends with the same bits", () =>
  inScratch(async (folder) => {
    await start({ folder, points: [], config: configText(folder, "whole", false) });
    const output = join(folder, "run");
    let saved = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const [points, next] = DEATHS[kill % DEATHS.length]!(saved);
      const from = await start({ folder, points, config: configText(folder, "run", saved > 0) });
      assert.equal(from, saved, `start ${kill}`);
      const { checkpoint, damaged } = await latestValid(output);
      assert.deepEqual(damaged, []);
      assert.equal(checkpoint?.step, next, `kill ${kill}`);
      saved = next;
    }
    assert.equal(await start({ folder, points: [], config: configText(folder, "run", true) }), saved);
    const read = (name: string) => readFileSync(join(folder, name, `checkpoint-${STEPS}`, "state.safetensors"));
    assert.deepEqual(read("run"), read("whole"));
    const steps = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line))
      .flatMap(({ type, step }) => type === "step" ? [step] : []);
    assert.deepEqual(steps, Array.from({ length: STEPS }, (_, i) => i + 1));
  }));
