/** The command line's environment in a real process. */
import { describeAdapter } from "../gpu/device.ts";
import type { Commands } from "./commands.ts";
import { checkData } from "./data_report.ts";
import type { Environment } from "./environment.ts";
import { ensureSystem } from "./setup.ts";
import { processSignals } from "./signals.ts";
import { thisSystem } from "./system.ts";
import { processTerminal } from "./terminal.ts";

/** Puts the program behind the command line together from the two parts that record and run plans. */
export function processEnvironment(program: Pick<Commands, "train" | "plan">): Environment {
  return {
    commands: { ...program, checkData, describeAdapter: () => describeAdapter() },
    terminal: processTerminal(),
    signals: processSignals,
    system: thisSystem,
    ensureSystem,
  };
}
