/**
 * Signals in every phase of a run, sent as a terminal and a scheduler send them: to all processes of the job at once. What was
 * trained is saved within one step, the exit code says which signal it was, and no process is left. Every signal in every phase
 * with COGTUNE_FULL, one in each phase without.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { latestValid } from "../../../lib/io/checkpoints.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { trainWords, withCopies } from "../../bad_input/command.ts";
import { until } from "../../patience.ts";
import { fromFileUrl } from "../../paths.ts";
import { examples } from "../runs.ts";

const full = Deno.env.has("COGTUNE_FULL");

const CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
type Name = keyof typeof CODES;

interface Phase {
  /** Words of the run. */
  readonly words?: readonly string[];
  /** Whether an event is the moment of the signal. */
  readonly at: (event: TrainEvent) => boolean;
  /** Whether steps were made when the signal comes. */
  readonly hasTrained: boolean;
  /** The signal of the normal suite. */
  readonly usual: Name;
}

const PHASES: Record<string, Phase> = {
  "encoding clips": { at: ({ type }) => type === "cache", hasTrained: false, usual: "SIGINT" },
  "before the first step": { at: ({ type }) => type === "started", hasTrained: false, usual: "SIGTERM" },
  "in the steps": { at: (event) => event.type === "step" && event.step === 2, hasTrained: true, usual: "SIGHUP" },
  "while saving": {
    words: ["--checkpointing_steps=1"],
    // It begins right after the step is told, and takes longer than the signal.
    at: (event) => event.type === "step" && event.step === 2,
    hasTrained: true,
    usual: "SIGTERM",
  },
  "after a save": {
    words: ["--checkpointing_steps=2"],
    at: ({ type }) => type === "saved",
    hasTrained: true,
    usual: "SIGINT",
  },
  "in a validation": {
    words: [
      "--do_validation=true",
      `--validation_dir=${join(examples, "clips")}`,
      "--validation_prompts=prompts.txt",
      "--checkpointing_steps=2",
      "--validation_steps=2",
      "--num_inference_steps=30",
    ],
    at: ({ type }) => type === "sample",
    hasTrained: false,
    usual: "SIGHUP",
  },
  "in the steps of two ranks": {
    words: ["--gpus=2"],
    at: (event) => event.type === "step" && event.step === 2,
    hasTrained: true,
    usual: "SIGINT",
  },
  "encoding clips on two ranks": {
    words: ["--gpus=2"],
    at: ({ type }) => type === "cache",
    hasTrained: false,
    usual: "SIGHUP",
  },
};

interface Ended {
  readonly code: number;
  readonly events: readonly TrainEvent[];
  /** When the signal was sent, seconds since 1970. */
  readonly sentAt: number;
  readonly error: string;
  readonly group: number;
}

/** Runs a job in a process group of its own and signals all of it at the first event of the phase. */
async function signalled(folder: string, { words = [], at }: Phase, name: Name): Promise<Ended> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", fromFileUrl("../../../mod.ts", import.meta.url)],
      ...trainWords(folder, "--train_steps=100", "--json", ...words),
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
  const events: TrainEvent[] = [];
  let sentAt: number | undefined;
  const read = async () => {
    let rest = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const event = JSON.parse(line) as TrainEvent;
        events.push(event);
        if (sentAt !== undefined || !at(event)) continue;
        Deno.kill(-child.pid, name);
        sentAt = Date.now() / 1000;
      }
    }
  };
  const [{ code }, error] = await Promise.all([child.status, child.stderr.text(), read()]);
  return { code, events, sentAt: sentAt!, error, group: child.pid };
}

/** Steps that a run has recorded since a moment. */
function stepsSince(folder: string, seconds: number): number {
  const path = join(folder, "metrics.jsonl");
  if (!existsSync(path)) return 0;
  const records = readFileSync(path, "utf8").trimEnd().split("\n").filter((line) => line !== "");
  return records.map((line) => JSON.parse(line)).filter(({ type, time }) => type === "step" && time > seconds).length;
}

/** Whether any process of a group is alive; one that only waits for its parent to take note of its end does not count. */
function isAlive(group: number): boolean {
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const [, state, of] = /^\d+ \(.*\) (\S) \d+ (\d+) /s.exec(readFileSync(`/proc/${name}/stat`, "utf8"))!;
      return Number(of) === group && !/[ZX]/.test(state!);
    } catch {
      return false;
    }
  });
}

Deno.test("a signal in any phase saves what was trained within a step, and leaves no process", (t) =>
  withCopies(async (folder) => {
    for (const [title, phase] of Object.entries(PHASES)) {
      for (const name of full ? Object.keys(CODES) as Name[] : [phase.usual]) {
        await t.step(`${name} ${title}`, async () => {
          for (const place of ["run", "clips/cache"]) {
            await Deno.remove(join(folder, place), { recursive: true }).catch(() => {});
          }
          const { code, events, sentAt, error, group } = await signalled(folder, phase, name);
          assert.equal(code, CODES[name], error);
          assert.doesNotMatch(error, /^error:/m);
          // The step in which the signal comes, and the one that the GPU has begun; a busy machine hears of it later.
          const stepsAfter = stepsSince(join(folder, "run"), sentAt);
          assert.ok(stepsAfter <= 10, `${stepsAfter} steps after the signal`);
          // A program that a killed one has started ends when it finds its pipes closed.
          await until(() => !isAlive(group), "the end of all processes");
          const steps = events.flatMap((event) => event.type === "step" ? [event.step] : []);
          if (phase.hasTrained) assert.ok(steps.length > 0);
          if (steps.length === 0) return;
          const { checkpoint } = await latestValid(join(folder, "run"));
          assert.equal(checkpoint?.step, steps.at(-1), "the last step is saved");
          const left = readdirSync(join(folder, "run")).filter((file) => /\.(tmp|trash|part)$/.test(file));
          assert.deepEqual(left, []);
        });
      }
    }
  }));

Deno.test("a run goes on without its terminal where nohup says so, and nowhere else", async () => {
  const module = new URL("../../../lib/comm/native/libc.ts", import.meta.url);
  const program = `import { ignoresHangup } from "${module}"; Deno.exit(ignoresHangup() ? 1 : 0);`;
  for (const [trap, code] of [["trap '' HUP; ", 1], ["trap - HUP; ", 0]] as const) {
    const { code: found } = await new Deno.Command("sh", {
      args: ["-c", `${trap}exec "$0" eval "$1"`, Deno.execPath(), program],
    }).output();
    assert.equal(found, code, trap);
  }
});
