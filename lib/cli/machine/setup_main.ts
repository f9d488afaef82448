/** Makes the machine ready before tests or benches: what `train` does by itself. */
import { ensureSystem } from "./setup.ts";
import { processTerminal } from "./terminal.ts";

const terminal = processTerminal();
await ensureSystem((line) => terminal.write(`${line}\n`));
