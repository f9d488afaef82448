/**
 * Training runs that fail at random: a rank is killed, stopped or delayed in any exchange or while it starts, or the launcher is
 * killed. Every run must end in time, name the culprit, leave no process, lock or file, and a newest checkpoint with the bits of
 * a run that nothing happened to; some are continued and must end with its bits.
 * Run: deno run -A tests/train/faults/chaos.ts COUNT [FIRST SEED]     (goes on after the last run that passed, see results.ts)
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { latestValid, listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { readManifest, verifyFolder } from "../../../lib/io/commit_folder.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { readRunState } from "../../../lib/train/checkpoint/checkpoint.ts";
import { openOutputFolder } from "../../../lib/train/checkpoint/output_folder.ts";
import { random } from "../../comm/launch/chaos.ts";
import { HUNG } from "../../patience.ts";
import { Results } from "../../reliability/results.ts";
import { examples, inScratch } from "../runs.ts";
import { type Fault, type WatchedRun, watchRun } from "./watched_run.ts";

/** Seconds that ranks wait for one without progress, and more than a busy machine keeps one from its step. */
const RANK_TIMEOUT = 6;
const STEPS = 4;
/** Runs of which one is continued to its end. */
const RESUMED = 10;

/** What is trained. */
interface Variant {
  readonly ranks: number;
  readonly settings: Readonly<Record<string, string | number>>;
}

const lora = { training_type: "lora", rank: 4 };
const sft = { training_type: "sft", mixed_precision: "bf16" };

const variants: readonly Variant[] = [
  { ranks: 2, settings: { ...lora, reduction: "ring", gradient_accumulation_steps: 2 } },
  { ranks: 2, settings: { ...lora, reduction: "canonical", gradient_accumulation_steps: 2 } },
  { ranks: 2, settings: { ...sft, reduction: "ring", zero_stage: 2 } },
  { ranks: 2, settings: { ...sft, reduction: "canonical", zero_stage: 3, base_weights: "streamed" } },
  { ranks: 2, settings: { ...sft, reduction: "ring", zero_stage: 3, offload_optimizer: "true" } },
  { ranks: 3, settings: { ...lora, reduction: "ring" } },
  { ranks: 3, settings: { ...sft, reduction: "canonical", zero_stage: 2 } },
  { ranks: 4, settings: { ...lora, reduction: "canonical" } },
];

const actions: readonly Fault["action"][] = ["kill", "kill", "stop", "delay", "kill launcher"];

/** An undisturbed run: its folder and how many exchanges its ranks made. */
interface Reference {
  readonly output: string;
  readonly exchanges: number;
}

/** What happened in a run. */
export interface ChaosResult {
  readonly seed: number;
  /** What was done, and what the run had saved. */
  readonly what: string;
  /** Milliseconds from the fault to the end of all processes, for runs that end by it. */
  readonly ended: number | undefined;
}

/** Runs in one folder, with one cache and one reference for each variant. */
class Chaos {
  readonly #references = new Map<Variant, Reference>();
  #cached: string[] = [];

  constructor(readonly folder: string) {}

  async run(seed: number): Promise<ChaosResult> {
    const pick = random(seed);
    for (let i = 0; i < 8; i++) pick(2);
    const variant = variants[pick(variants.length)]!;
    const reference = await this.#reference(variant);
    const fault: Fault = {
      action: actions[pick(actions.length)]!,
      rank: pick(variant.ranks),
      exchange: pick(6) === 0 ? undefined : pick(reference.exchanges),
      after: pick(3) === 0 ? pick(300) : pick(30),
      duration: 200 + pick(1000),
    };
    const output = join(this.folder, `run-${seed}`);
    const settings = JSON.stringify({ ranks: variant.ranks, ...variant.settings });
    const what = `seed ${seed}: ${JSON.stringify(fault)} ${settings}`;
    try {
      const run = await this.#train(variant, output, { fault });
      judge(run, fault);
      const step = await assertWhole(output, reference, reported(run));
      this.#assertCache();
      if (run.code === 0) assert.equal(step, STEPS, run.text);
      if (seed % RESUMED === 0) await this.#resume(variant, output, step, reference);
      if (existsSync(output)) Deno.removeSync(output, { recursive: true });
      const ended = fault.action === "delay" || run.code === 0 ? undefined : run.ended;
      const line = `${what} saved ${step}${run.late ? " late" : ""}${seed % RESUMED === 0 ? " continued" : ""}`;
      return { seed, what: line, ended };
    } catch (error) {
      throw new Error(what, { cause: error });
    }
  }

  async #train(
    { ranks, settings }: Variant,
    output: string,
    { fault, resume = false, keep = 2 }: { fault?: Fault; resume?: boolean; keep?: number },
  ): Promise<WatchedRun> {
    const config = {
      model_path: join(examples, "tiny-2b"),
      model_name: "cogvideox-t2v",
      data_root: join(this.folder, "clips"),
      cache_dir: join(this.folder, "cache"),
      output_dir: output,
      train_resolution: "9x32x48",
      learning_rate: 0.001,
      lr_warmup_steps: 0,
      train_steps: STEPS,
      checkpointing_steps: 1,
      checkpointing_limit: keep,
      rank_timeout: RANK_TIMEOUT,
      gpus: ranks,
      ...settings,
      ...(resume ? { resume_from_checkpoint: "latest" } : {}),
    };
    const words = Object.entries(config).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const temporary = join(this.folder, "temporary");
    mkdirSync(temporary, { recursive: true });
    const run = await watchRun(words, { size: ranks, temporary, fault });
    assert.deepEqual(readdirSync(temporary), [], run.text);
    return run;
  }

  async #reference(variant: Variant): Promise<Reference> {
    const known = this.#references.get(variant);
    if (known !== undefined) return known;
    const output = join(this.folder, `reference-${variants.indexOf(variant)}`);
    const { code, text, exchanges } = await this.#train(variant, output, { keep: STEPS });
    assert.equal(code, 0, text);
    assert.equal(listCheckpoints(output).length, STEPS);
    const reference = { output, exchanges };
    this.#references.set(variant, reference);
    this.#cached = this.#cacheFiles();
    return reference;
  }

  #assertCache(): void {
    assert.deepEqual(this.#cacheFiles(), this.#cached);
  }

  /** All but the notes of who uses the cache: a killed run leaves its own, which the next one takes for what it is. */
  #cacheFiles(): string[] {
    const names = readdirSync(join(this.folder, "cache"), { recursive: true }).map(String);
    return names.filter((name) => !name.startsWith("in-use/")).sort();
  }

  /** Continues a run to its end, or begins it again when it has saved nothing. */
  async #resume(variant: Variant, output: string, step: number, reference: Reference): Promise<void> {
    const { code, text } = await this.#train(variant, output, { resume: step > 0 });
    assert.equal(code, 0, text);
    assert.equal(await assertWhole(output, reference, STEPS), STEPS);
    assert.deepEqual(recordedSteps(output), recordedSteps(reference.output));
  }
}

/** The last step whose checkpoint the run has reported; 0 when there is none. */
function reported({ text }: WatchedRun): number {
  return Math.max(0, ...[...text.matchAll(/^saved .*\/checkpoint-(\d+) /gm)].map(([, step]) => Number(step)));
}

/** Checks the end of a run: in time, with the exit code for what happened, and with the name of the culprit. */
function judge(run: WatchedRun, { action, rank }: Fault): void {
  const { code, signal, text, ended, late, named } = run;
  assert.deepEqual(named, [], text);
  // A rank that has done its work ends the run well, or is still found missing.
  if (action === "delay" || (late && code === 0)) return assert.equal(code, 0, text);
  assert.ok(ended !== undefined, text);
  assert.ok(ended < HUNG, `${ended} ms: ${text}`);
  if (action === "kill launcher") return assert.equal(signal, "SIGKILL", text);
  assert.equal(code, 7, text);
  const cause = action === "kill"
    ? "was killed by SIGKILL"
    : "(made no progress within its deadline|was stopped by a signal for longer than its deadline)";
  assert.match(text, new RegExp(`^error: rank ${rank} ${cause}`, "m"));
  for (const [, culprit] of text.matchAll(/ stopped: rank (\d+) /g)) assert.equal(Number(culprit), rank, text);
}

/**
 * Takes the output folder as the next run would, and compares its checkpoints with those of the undisturbed run, bit for bit.
 * Returns the step of the newest, 0 when there is none; it must not be older than what the run has reported.
 */
async function assertWhole(output: string, reference: Reference, least: number): Promise<number> {
  if (!existsSync(output)) return assert.equal(least, 0) ?? 0;
  assert.deepEqual((await latestValid(output)).damaged, []);
  const checkpoints = listCheckpoints(output);
  // One more while the oldest is being removed.
  assert.ok(checkpoints.length <= 3, `${checkpoints.length} checkpoints`);
  for (const { path, step } of checkpoints) {
    assert.deepEqual((await verifyFolder(path)).problems, []);
    assertSame(path, join(reference.output, `checkpoint-${step}`));
    assert.equal(readRunState(path).step, step);
  }
  const resume_from_checkpoint = checkpoints.length > 0 ? "latest" : undefined;
  using folder = await openOutputFolder({
    output_dir: output,
    resume_from_checkpoint,
    checkpointing_limit: 2,
    keep_best: false,
  });
  for (const message of folder.cleared) assert.match(message, /^cleared /);
  assert.deepEqual(folder.warnings, []);
  const unknown = readdirSync(output).filter((name) =>
    !/^(\.lock|index\.html|metrics(\.\d+)?\.jsonl|checkpoint-\d)$/.test(name)
  );
  assert.deepEqual(unknown, []);
  const step = checkpoints.at(-1)?.step ?? 0;
  assert.equal(folder.checkpoint && basename(folder.checkpoint), step > 0 ? `checkpoint-${step}` : undefined);
  assert.ok(step >= least, `checkpoint-${least} was reported, and the newest is checkpoint-${step}`);
  return step;
}

/** Compares the files of two checkpoints, but for the config, which names the folder, and every tensor of their state. */
function assertSame(path: string, expected: string): void {
  const files = (folder: string) => readManifest(folder).filter(({ name }) => name !== "config.yaml");
  assert.deepEqual(files(path), files(expected));
  using actual = openSafetensors(join(path, "state.safetensors"));
  using reference = openSafetensors(join(expected, "state.safetensors"));
  assert.deepEqual([...actual.tensors.keys()], [...reference.tensors.keys()]);
  for (const name of reference.tensors.keys()) {
    assert.deepEqual(actual.readBytes(name), reference.readBytes(name), name);
  }
}

/** What a run has recorded of its steps, without times. */
function recordedSteps(output: string): unknown[] {
  return readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line))
    .filter(({ type }) => type === "step").map((
      { time: _time, secondsPerStep: _seconds, flopsPerSecond: _rate, peakShare: _share, ranks: _ranks, ...record },
    ) => record);
}

/** Makes the runs of `seeds` one after the other. A run that is not as it must be goes to `failed`, which may throw. */
export async function chaos(
  seeds: readonly number[],
  report: (result: ChaosResult) => void,
  failed: (seed: number, error: unknown) => void,
): Promise<void> {
  await inScratch(async (folder) => {
    const runs = new Chaos(folder);
    for (const seed of seeds) {
      try {
        report(await runs.run(seed));
      } catch (error) {
        failed(seed, error);
      }
    }
  });
}

/** What became of one seed. */
interface Outcome extends ChaosResult {
  readonly error?: string;
}

if (import.meta.main) {
  const [count = 20, first = 0] = Deno.args.map(Number);
  const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  const results = new Results<Outcome>("chaos");
  const seeds = Array.from({ length: count }, (_, i) => first + i);
  const add = (outcome: Outcome) => {
    results.add(outcome);
    const end = outcome.ended === undefined ? "" : `, ended after ${Math.round(outcome.ended)} ms`;
    print(outcome.error ?? outcome.what + end);
  };
  await chaos(
    seeds.filter((seed) => !results.all.some((outcome) => outcome.seed === seed && !outcome.error)),
    add,
    (seed, error) => add({ seed, what: `seed ${seed}`, ended: undefined, error: Deno.inspect(error) }),
  );
  const ended = seeds.map((seed) => results.all.findLast((outcome) => outcome.seed === seed)!);
  const failed = ended.filter(({ error }) => error);
  const longest = Math.round(Math.max(...ended.map((outcome) => outcome.ended ?? 0)));
  print(
    `${count - failed.length} of ${count} passed, longest end ${longest} ms; failed: ${failed.map(({ seed }) => seed)}`,
  );
  Deno.exit(failed.length === 0 ? 0 : 1);
}
