/** The engine that tests and benchmarks use where they don't name one: `COGTUNE_ENGINE=dawn deno test -A tests/kernels`. */
import type { EngineChoice } from "../lib/gpu/engine.ts";

const named = Deno.env.get("COGTUNE_ENGINE") ?? "deno";
if (!["auto", "deno", "dawn"].includes(named)) {
  throw new Error(`COGTUNE_ENGINE is "${named}": expected auto, deno or dawn`);
}

export const engine = named as EngineChoice;
