/** The program: the command line wired to the trainer and the forecast. */
import { trainAnywhere } from "../train/launch/launch.ts";
import { tuneRun } from "../train/tune_run.ts";
import { planReport } from "./commands/plan_report.ts";
import { processEnvironment } from "./process_environment.ts";
import { runCli } from "./run_cli.ts";

/** Runs one command line and ends the process with its exit code. */
export async function main(args: readonly string[]): Promise<never> {
  Deno.exit(await runCli(args, processEnvironment({ train: trainAnywhere, plan: planReport, tune: tuneRun })));
}
