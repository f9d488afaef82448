/** What the program of a stage is given, `FILE STAGE SMALL [ARGUMENT ...]`, and how it reports. */
import { print } from "../suite.ts";
import { engine } from "../../tests/engine.ts";
import { append, type Figures } from "./results.ts";

const [file, stage, small, ...rest] = Deno.args;

/** Tiny shapes, for software drivers. */
export const isSmall = small === "small";

/** What is particular to the stage. */
export const stageArguments: readonly string[] = rest;

/** Leaves figures on disk. */
export function record(name: string, figures: Figures): void {
  append(file!, { stage: stage!, engine, name, ...figures });
}

/** Records what `measure` finds out, or why it can't, beside what is `known`; false in the second case. What it prints says where a stage was stopped. */
export async function attempt(name: string, known: Figures, measure: () => Promise<Figures>): Promise<boolean> {
  print([name, ...Object.values(known)].join(", "));
  try {
    record(name, { ...known, ...await measure() });
    return true;
  } catch (error) {
    record(name, { ...known, problem: error instanceof Error ? error.message : String(error) });
    return false;
  }
}
