/** The command line's environment in a real process. */
import { describeEngines } from "../gpu/engine.ts";
import type { Commands } from "./machine/commands.ts";
import { serveDashboard } from "./dashboard/server.ts";
import { checkData } from "./commands/data_report.ts";
import type { Environment } from "./machine/environment.ts";
import { processAnswers } from "./machine/answers.ts";
import { ensureSystem } from "./machine/setup.ts";
import { processSignals } from "./machine/signals.ts";
import { thisSystem } from "./machine/system.ts";
import { processTerminal } from "./machine/terminal.ts";

/** Puts the program behind the command line together from the parts that record and run plans. */
export function processEnvironment(program: Pick<Commands, "train" | "plan" | "tune">): Environment {
  return {
    commands: { ...program, checkData, describeEngines: () => describeEngines(), serve: serveDashboard },
    terminal: processTerminal(),
    signals: processSignals,
    system: thisSystem,
    answer: processAnswers(),
    ensureSystem,
  };
}
