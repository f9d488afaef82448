/** The program: the command line wired to the trainer and the forecast. */
import { endProcess } from "../comm/native/libc.ts";
import { trainForProgram } from "../train/launch/launch.ts";
import { tuneRun } from "../train/tune_run.ts";
import { outliveReaders } from "./machine/terminal.ts";
import { planReport } from "./commands/plan_report.ts";
import { processEnvironment } from "./process_environment.ts";
import { runCli } from "./run_cli.ts";

/** Runs one command line and ends the process with its exit code. */
export async function main(args: readonly string[]): Promise<never> {
  outliveReaders();
  endProcess(await runCli(args, processEnvironment({ train: trainForProgram, plan: planReport, tune: tuneRun })));
}
