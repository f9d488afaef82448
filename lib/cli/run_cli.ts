/** The command line: commands, their help, and what errors look like. */
import {
  type Application,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type Command,
  type CommandContext,
  run,
  text_en,
} from "@stricli/core";
import metadata from "../../deno.json" with { type: "json" };
import { PeerError, peerFailureCode } from "../comm/exchange/communicator.ts";
import { UserError } from "../errors.ts";
import { normalizeArguments } from "./settings/arguments.ts";
import { dataCheckCommand, dataImportCommand, layoutHelp } from "./commands/data_commands.ts";
import { diagnose } from "./commands/doctor.ts";
import type { Environment } from "./machine/environment.ts";
import { configHelp } from "./settings/help.ts";
import { loraRoutes } from "./commands/lora_routes.ts";
import { sample } from "./commands/sample_route.ts";
import { planCommand } from "./commands/plan_command.ts";
import { trainCommand } from "./commands/train_command.ts";
import { tuneCommand } from "./commands/tune_command.ts";

/** Exit code of everything the user can mend: wrong arguments, a wrong config, missing files. */
const userErrorCode = 2;

interface Context extends CommandContext {
  readonly environment: Environment;
  /** Sets the exit code of a command that ends without an error. */
  exitWith(code: number): void;
}

/** Commands whose words are settings rather than flags of their own. */
const configCommands = ["train", "plan", "tune", "data check", "data import"];

/**
 * Runs one command line (without the program name) and returns its exit code: 0, 1 for a fault of the program or a
 * machine that `doctor` finds unfit, 2 for a mistake of the user, 7 when a rank was lost, 130 or 143 after a signal.
 * `train` is implied when the first word is no command.
 */
export async function runCli(args: readonly string[], environment: Environment): Promise<number> {
  const { terminal } = environment;
  const process = {
    stdout: { write: (text: string) => terminal.write(text) },
    stderr: { write: (text: string) => terminal.writeError(text) },
    exitCode: null as number | string | null,
  };
  let code: number | undefined;
  const exitWith = (chosen: number) => void (code = chosen);
  try {
    await run(application, routedWords(args), { process, environment, exitWith });
  } catch (error) {
    terminal.writeError(`${describeError(error)}\n`);
    return exitCodeOf(error);
  }
  if (code !== undefined) return code;
  const result = Number(process.exitCode ?? 0);
  // The framework numbers its own refusals (unknown command, wrong flag) from -1 down.
  return result < 0 ? userErrorCode : result;
}

/** Puts the implied command in front and rewrites settings to `key=value`. */
function routedWords(args: readonly string[]): string[] {
  const [first] = args;
  const isRoot = first !== undefined && ["-h", "--help", "-v", "--version"].includes(first);
  const implied = first === undefined || (!isRoot && (first.startsWith("--") || /=|\.ya?ml$/i.test(first)));
  const words = implied ? ["train", ...args] : [...args];
  const name = configCommands.find((name) => words.slice(0, name.split(" ").length).join(" ") === name);
  if (name === undefined) return ["sample", "lora"].includes(words[0]!) ? words.map(underscored) : words;
  const count = name.split(" ").length;
  return [...words.slice(0, count), ...normalizeArguments(words.slice(count))];
}

/** `--guidance-scale=3` as `--guidance_scale=3`: both spellings are accepted everywhere. */
function underscored(word: string): string {
  return word.replace(/^--[\w-]+/, (flag) => flag === "--help-all" ? flag : `--${flag.slice(2).replaceAll("-", "_")}`);
}

function configCommand(
  brief: string,
  usage: string,
  body: (environment: Environment, words: readonly string[]) => Promise<number>,
  more: string = "",
): Command<Context> {
  return buildCommand<Record<never, never>, string[], Context>({
    async func(_flags, ...words) {
      this.exitWith(await body(this.environment, words));
    },
    parameters: {
      positional: {
        kind: "array",
        parameter: { brief: "YAML file or setting", parse: String, placeholder: "setting" },
      },
    },
    docs: { brief, fullDescription: `${brief}.\n\n${more}${configHelp()}`, customUsage: [usage] },
  });
}

const train = configCommand(
  "Fine-tune a model",
  "[--preset NAME] [FILE.yaml] [--KEY VALUE]...",
  trainCommand,
);

const plan = configCommand(
  "Forecast memory, work and time of a run without a GPU",
  "[--preset NAME] [FILE.yaml] [--KEY VALUE]... [--fit 12GiB] [--gpu NAME] [--hosts N] " +
    "[--links measured] [--transfer|memory|staged|network GB/s]",
  planCommand,
);

const tune = configCommand(
  "Measure the variants of kernels on this GPU at the shapes of a run, and show which are used",
  "[--preset NAME] [FILE.yaml] [--KEY VALUE]... [--again]",
  tuneCommand,
);

const dataCheck = configCommand(
  "Check every clip and prompt of a dataset",
  "--data_root FOLDER [--html PAGE.html] [FILE.yaml] [--KEY VALUE]...",
  dataCheckCommand,
  layoutHelp(),
);

const dataImport = configCommand(
  "Write the lists of a dataset that is laid out for another trainer; clips stay where they are",
  "--data_root FOLDER_OR_TABLE --to FOLDER [--KEY VALUE]...",
  dataImportCommand,
  layoutHelp(),
);

const doctor = buildCommand<Record<never, never>, [], Context>({
  async func() {
    const { terminal, system, commands } = this.environment;
    const checks = await diagnose(system, () => commands.describeEngines());
    for (const { name, status, found, remedy } of checks) {
      terminal.write(`${status.padEnd(8)} ${name.padEnd(15)} ${found}\n`);
      if (remedy !== undefined) terminal.write(`${" ".repeat(25)}${remedy}\n`);
    }
    this.exitWith(checks.some(({ status }) => status === "problem") ? 1 : 0);
  },
  parameters: {},
  docs: { brief: "Check the machine: runtime, GPU, drivers, ffmpeg, memory, disk" },
});

const application: Application<Context> = buildApplication(
  buildRouteMap({
    routes: {
      train,
      plan,
      tune,
      sample,
      doctor,
      data: buildRouteMap({ routes: { check: dataCheck, import: dataImport }, docs: { brief: "Look at a dataset" } }),
      lora: loraRoutes,
    },
    docs: { brief: "Fine-tune CogVideoX video models. Without a command: train" },
  }),
  {
    name: "cogtune",
    versionInfo: { currentVersion: metadata.version },
    documentation: { disableAnsiColor: true },
    determineExitCode: exitCodeOf,
    localization: { text: { ...text_en, exceptionWhileRunningCommand: describeError } },
  },
);

/** A user's mistake is its message; only a fault of the program shows where in the program it happened. */
function describeError(error: unknown): string {
  if (error instanceof UserError || error instanceof PeerError) return `error: ${error.message}`;
  // Deno names what was wanted and the flag that allows it.
  if (isUsers(error)) return `error: ${error.message}; docs/permissions.md lists the flags of every command`;
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

/** Whether the user can mend it: a mistake, or a permission that was not given. */
function isUsers(error: unknown): error is Error {
  return error instanceof UserError || error instanceof Deno.errors.NotCapable;
}

function exitCodeOf(error: unknown): number {
  return isUsers(error) ? userErrorCode : error instanceof PeerError ? peerFailureCode : 1;
}
