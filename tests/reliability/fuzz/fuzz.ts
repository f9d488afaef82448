/**
 * Reads millions of mutated inputs in this process: every reader returns a value or throws a UserError, within a second, whatever
 * the bytes are. A failure is minimised and printed; it belongs into cases.json, which every run of the tests reads.
 * Run: deno run -A tests/reliability/fuzz/fuzz.ts COUNT
 */
import { existsSync } from "node:fs";
import { cpuUsage } from "node:process";
import { UserError } from "../../../lib/errors.ts";
import { random } from "../../comm/launch/chaos.ts";
import { Results } from "../results.ts";
import { minimised, mutate } from "./mutate.ts";
import { type Target, targetsIn } from "./targets.ts";

/** Inputs that are made from one seed of random numbers, so that a suite can go on where it stopped. */
const BLOCK = 10_000;
/** Milliseconds of the processor that an input of a few hundred bytes may take. */
const SLOW = 1000;
/** Failures of one block that are kept. */
const MOST_FAILURES = 5;

/** A block of inputs of one reader. */
export interface Block {
  readonly target: string;
  readonly inputs: number;
  readonly refused: number;
  readonly seconds: number;
  readonly failures: readonly { readonly input: string; readonly error: string }[];
}

/** What is wrong with how a reader took these bytes; undefined when nothing is. `refused` is called for a UserError. */
export function problemWith({ read }: Target, bytes: Uint8Array, refused: () => void = () => {}): string | undefined {
  const start = performance.now();
  let error = errorOf(read, bytes);
  if (error instanceof UserError) refused();
  if (performance.now() - start >= SLOW) {
    // Once more by the time of the processor, which a busy machine does not lengthen.
    const before = processorTime();
    error = errorOf(read, bytes);
    if (processorTime() - before >= SLOW) return `it took more than ${SLOW} ms`;
  }
  if (error === undefined || error instanceof UserError) return undefined;
  return error instanceof Error ? `${error.stack}` : String(error);
}

/** Milliseconds of the processor that this thread has taken; of the whole process, other tests included, off Linux. */
function processorTime(): number {
  try {
    return Number(Deno.readTextFileSync("/proc/thread-self/schedstat").split(" ")[0]) / 1e6;
  } catch {
    const { user, system } = cpuUsage();
    return (user + system) / 1000;
  }
}

function errorOf(read: Target["read"], bytes: Uint8Array): unknown {
  try {
    read(bytes);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The first line of a problem without its numbers. */
function kindOf(problem: string | undefined): string | undefined {
  return problem?.split("\n", 1).join().replaceAll(/\d+/g, "");
}

/** Reads the inputs of one block. */
export function readBlock(name: string, target: Target, number: number, inputs = BLOCK): Block {
  const pick = random(1 + number * 64 + [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) * 65_537);
  const failures: { input: string; error: string }[] = [];
  let refused = 0;
  const start = performance.now();
  for (let i = 0; i < inputs; i++) {
    const bytes = mutate(target.seeds, target.words, pick);
    const error = problemWith(target, bytes, () => refused++);
    if (error === undefined || failures.length === MOST_FAILURES) continue;
    const smallest = minimised(bytes, (bytes) => kindOf(problemWith(target, bytes)) === kindOf(error));
    failures.push({ input: smallest.toBase64(), error });
  }
  return { target: name, inputs, refused, seconds: (performance.now() - start) / 1000, failures };
}

/** Reads `count` inputs in all, those of earlier starts included, each reader its share; prints a line per reader. */
export function fuzz(count: number, folder: string, print: (line: string) => void): Block["failures"] {
  const results = new Results<Block>("fuzz");
  const targets = Object.entries(targetsIn(folder));
  const shares = targets.reduce((sum, [, { share }]) => sum + share, 0);
  const blocksOf = (name: string) => results.all.filter(({ target }) => target === name);
  // A round reads a block of every reader per share, so that a suite that is stopped has read of all.
  const wanted = ({ share }: Target) => Math.ceil((count * share) / shares / BLOCK);
  for (let round = 1; targets.some(([name, target]) => blocksOf(name).length < wanted(target)); round++) {
    for (const [name, target] of targets) {
      const goal = Math.min(wanted(target), round * target.share);
      for (let block = blocksOf(name).length; block < goal; block++) results.add(readBlock(name, target, block));
    }
  }
  let total = 0;
  for (const [name] of targets) {
    const blocks = blocksOf(name);
    const sum = (of: (block: Block) => number) => blocks.reduce((sum, block) => sum + of(block), 0);
    const [inputs, seconds, failed] = [sum((b) => b.inputs), sum((b) => b.seconds), sum((b) => b.failures.length)];
    total += inputs;
    const share = (100 * sum((b) => b.refused)) / inputs;
    print(
      `${name}: ${inputs} inputs, ${share.toFixed(0)} % refused, ${
        (inputs / seconds).toFixed(0)
      } a second, ${failed} failed`,
    );
  }
  print(`${total} inputs in all`);
  return results.all.flatMap(({ failures }) => failures);
}

/** A folder in memory where there is one: a disk takes 8 ms for a file. */
export function memoryFolder(): string {
  return Deno.makeTempDirSync(existsSync("/dev/shm") ? { dir: "/dev/shm" } : {});
}

if (import.meta.main) {
  const folder = memoryFolder();
  // deno-lint-ignore no-console
  for (const { input, error } of fuzz(Number(Deno.args[0] ?? 1e6), folder, console.log)) console.log(input, error);
}
