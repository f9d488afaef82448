/**
 * What computed a checkpoint. Any other continues it; that the bits become those of a run without a break is promised
 * on the same alone.
 */
import metadata from "../../../deno.json" with { type: "json" };
import type { AdapterReport } from "../../gpu/adapter.ts";
import { cardOf } from "../../tune/table.ts";
import { readRunState, type RunMachine } from "./checkpoint.ts";

/** Card, driver and engine, and the versions of Deno and of this program. */
export function machineOf(adapter: AdapterReport): RunMachine {
  return {
    // A software driver names its version itself, and nothing need be asked that takes a permission.
    gpu: adapter.software ? `${adapter.engine}, ${adapter.description}` : cardOf(adapter),
    runtime: `Deno ${Deno.version.deno}`,
    program: `cogtune ${metadata.version}`,
  };
}

/** A line when another machine continues a checkpoint, with all that is another. Nothing is known of version 0.1. */
export function machineChanges(checkpoint: string, current: RunMachine): string[] {
  const { machine } = readRunState(checkpoint);
  if (machine === undefined) return [];
  const changes = (Object.keys(current) as (keyof RunMachine)[])
    .filter((part) => machine[part] !== current[part])
    .map((part) => `${machine[part]} before, ${current[part]} here`);
  if (changes.length === 0) return [];
  return [`the run goes on where its bits may not be those of a run without a break: ${changes.join("; ")}`];
}
