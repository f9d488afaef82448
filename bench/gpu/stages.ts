/** What is run on a machine with an unknown GPU, the most telling first: whatever no time is left for is skipped. */
import { fileURLToPath } from "node:url";
import type { Engine } from "../../lib/gpu/dialect.ts";

/** A program with a time limit of its own. */
export interface Stage {
  readonly name: string;
  readonly engine: Engine;
  /** Seconds after which it is killed. */
  readonly limit: number;
  readonly program: string;
  readonly args: readonly string[];
  /** Its output is that of `deno test`, to be counted; others leave rows on disk. */
  readonly counted?: true;
}

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** A program of this folder; RESULTS and SIZE stand for what the run decides. */
function measuring(engine: Engine, name: string, limit: number, file: string, args: readonly string[] = []): Stage {
  const program = pathOf(file);
  return {
    name,
    engine,
    limit,
    program: Deno.execPath(),
    args: ["run", "-A", "--no-check", program, "RESULTS", name, "SIZE", ...args],
  };
}

function testing(engine: Engine, name: string, limit: number, paths: readonly string[]): Stage {
  const files = paths.map((path) => pathOf(`../../tests/${path}`));
  const args = ["test", "-A", "--no-check", "--parallel", ...files];
  return { name, engine, limit, program: Deno.execPath(), args, counted: true };
}

function stepping(engine: Engine, type: string, model: string, blocks: number, limit: number): Stage {
  const args = [model, String(blocks), type, String(limit)];
  return measuring(engine, `${type}-${model}-${blocks}`, limit, "steps.ts", args);
}

function sampling(engine: Engine, model: string, blocks: number, limit: number): Stage {
  return measuring(engine, `sampling-${model}-${blocks}`, limit, "sampling.ts", [model, String(blocks)]);
}

/** What tells most of an engine in the least time. */
function coreStages(engine: Engine): Stage[] {
  return [
    measuring(engine, "peaks", 20, "ceilings.ts"),
    stepping(engine, "lora", "5b", 2, 60),
    measuring(engine, "products", 50, "kernels.ts", ["products"]),
    measuring(engine, "attention", 40, "kernels.ts", ["attention"]),
  ];
}

function furtherStages(engine: Engine): Stage[] {
  return [
    testing(engine, "kernel-tests", 60, ["kernels"]),
    measuring(engine, "rows", 20, "kernels.ts", ["rows"]),
    sampling(engine, "5b", 2, 30),
    stepping(engine, "lora", "2b", 2, 40),
    measuring(engine, "tuning", 60, "tuning.ts", ["5b", "1", "40"]),
    stepping(engine, "sft", "2b", 2, 40),
    testing(engine, "op-tests", 40, ["ops"]),
    testing(engine, "step-tests", 60, ["step"]),
    measuring(engine, "convolutions", 20, "kernels.ts", ["convolutions"]),
  ];
}

/** Every kind of stage at sizes that a software driver computes in seconds. */
function smallStages(engine: Engine): Stage[] {
  const families = ["products", "attention", "rows", "convolutions"];
  return [
    measuring(engine, "peaks", 60, "ceilings.ts"),
    ...families.map((family) => measuring(engine, family, 90, "kernels.ts", [family])),
    stepping(engine, "lora", "tiny-2b", 2, 90),
    stepping(engine, "sft", "tiny-2b", 2, 90),
    sampling(engine, "tiny-2b", 2, 60),
    measuring(engine, "tuning", 90, "tuning.ts", ["tiny-2b", "1", "3"]),
    testing(engine, "kernel-tests", 60, ["kernels/rows/resample_test.ts"]),
    testing(engine, "op-tests", 60, ["ops/attention_operands_test.ts"]),
    testing(engine, "step-tests", 60, ["step/run_description_test.ts"]),
  ];
}

/** The stage that finds out which engines there are. */
export const featuresStage: Stage = measuring("deno", "features", 40, "features.ts");

/** Steps that take a card with enough memory and the time that the others leave, the cheapest first. */
const WHOLE = [
  ["lora", "5b", 6],
  ["lora", "1.5-5b", 2],
  ["lora", "2b", 30],
  ["sft", "2b", 30],
  ["lora", "5b", 42],
] as const;

/**
 * All stages after it, for the engines that were found, the one with matrix units first; steps of whole models come last, on that one.
 */
export function stagesFor(engines: readonly Engine[], small: boolean): Stage[] {
  const first = engines[0]!;
  const reference = pathOf("torch_reference.py");
  const torch = {
    name: "torch",
    engine: first,
    limit: 60,
    program: "python3",
    args: [reference, "RESULTS", "SIZE", first],
  };
  if (small) return [...engines.flatMap(smallStages), torch];
  return [
    ...engines.flatMap(coreStages),
    torch,
    ...engines.flatMap(furtherStages),
    ...WHOLE.map(([type, model, blocks]) => stepping(first, type, model, blocks, 150)),
  ];
}
