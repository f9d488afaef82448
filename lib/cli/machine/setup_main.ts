/** Makes the machine ready before tests or benches: what `train` does by itself, and what tests alone need. */
import { ensureSystem } from "./setup.ts";
import { thisSystem } from "./system.ts";
import { processTerminal } from "./terminal.ts";

const terminal = processTerminal();
await ensureSystem((line) => terminal.write(`${line}\n`), thisSystem, { tests: true });
