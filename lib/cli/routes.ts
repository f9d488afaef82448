/** The commands: which words reach which, and their help. */
import {
  type Application,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type Command,
  type RouteMap,
  text_en,
} from "@stricli/core";
import metadata from "../../deno.json" with { type: "json" };
import {
  dataCheckCommand,
  dataCheckFlags,
  dataImportCommand,
  dataImportFlags,
  layoutHelp,
} from "./commands/data_commands.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { loraRoutes } from "./commands/lora_routes.ts";
import { planCommand, planFlags } from "./commands/plan_command.ts";
import { sample } from "./commands/sample_route.ts";
import { trainCommand, trainFlags } from "./commands/train_command.ts";
import { tuneCommand, tuneFlags } from "./commands/tune_command.ts";
import type { CliContext } from "./context.ts";
import { dashboard } from "./dashboard/route.ts";
import { commandTable } from "./help/command_table.ts";
import { completionScript, shellNames } from "./help/completions.ts";
import { configHelp } from "./help/config_help.ts";
import { describedCommand } from "./help/examples.ts";
import { explain } from "./help/explain.ts";
import { initCommand, type InitFlags } from "./init/init_command.ts";
import type { Environment } from "./machine/environment.ts";
import { push } from "./push/route.ts";
import { configImport } from "./settings/config_import.ts";
import type { OwnFlag } from "./settings/own_flags.ts";
import { programCall } from "./show/program_call.ts";

/** A command whose words are settings of a run, besides a few flags of its own. */
interface ConfigCommand {
  readonly brief: string;
  /** What its help says in front of the settings. */
  readonly about?: () => string;
  readonly flags: readonly OwnFlag[];
  readonly body: (environment: Environment, words: readonly string[]) => Promise<number>;
}

/** The commands of that kind, by the words that call them. */
export const CONFIG_COMMANDS: Readonly<Record<string, ConfigCommand>> = {
  train: { brief: "Fine-tune a model", flags: trainFlags, body: trainCommand },
  plan: {
    brief: "Forecast memory, work and time of a run without a GPU",
    flags: planFlags,
    body: planCommand,
  },
  tune: {
    brief: "Measure the variants of kernels on this GPU at the shapes of a run, and show which are used",
    flags: tuneFlags,
    body: tuneCommand,
  },
  "data check": {
    brief: "Check every clip and prompt of a dataset",
    about: layoutHelp,
    flags: dataCheckFlags,
    body: dataCheckCommand,
  },
  "data import": {
    brief: "Write the lists of a dataset that is laid out for another trainer; clips stay where they are",
    about: layoutHelp,
    flags: dataImportFlags,
    body: dataImportCommand,
  },
};

function configCommand(name: string): Command<CliContext> {
  const { brief, about, flags, body } = CONFIG_COMMANDS[name]!;
  const own = flags.map(({ name, takes }) => `[--${name}${takes === undefined ? "" : ` ${takes}`}]`);
  const usage = ["[--preset NAME]", "[FILE.yaml]", "[--KEY VALUE]...", ...own].join(" ");
  return buildCommand<Record<never, never>, string[], CliContext>({
    async func(_flags, ...words) {
      this.exitWith(await body(this.environment, words));
    },
    parameters: {
      positional: {
        kind: "array",
        parameter: { brief: "YAML file or setting", parse: String, placeholder: "setting" },
      },
    },
    docs: {
      brief,
      fullDescription: `${brief}.\n\n${about === undefined ? "" : `${about()}\n`}${configHelp(name, flags)}`,
      customUsage: [usage],
    },
  });
}

const answer = (brief: string, placeholder: string) =>
  ({ kind: "parsed", parse: String, brief, placeholder, optional: true }) as const;

const init: Command<CliContext> = buildCommand<InitFlags, [], CliContext>({
  async func(flags) {
    this.exitWith(await initCommand(this.environment, flags));
  },
  parameters: {
    flags: {
      model: answer("Folder, hub id or name of the model, as 5b", "model"),
      data: answer("Folder of the clips and their captions", "folder"),
      method: answer("What to train: lora, or all weights (sft)", "lora|sft"),
      memory: answer("Memory of the GPU, GiB", "GiB"),
      trigger: answer("Word in front of every prompt; none when empty", "word"),
      to: { kind: "parsed", parse: String, brief: "File to write", placeholder: "file", default: "cogtune.yaml" },
      overwrite: {
        kind: "boolean",
        brief: "Replace a file that exists without asking",
        default: false,
        withNegated: false,
      },
    },
  },
  docs: describedCommand("init", "Ask five questions and write a config that train takes as it is", [
    "Flags answer questions beforehand; what they leave open is asked on standard input, a line per answer.",
  ]),
});

const explainKey: Command<CliContext> = buildCommand<Record<never, never>, [string?], CliContext>({
  func(_flags, key) {
    this.environment.terminal.write(`${explain(key).join("\n")}\n`);
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{
        brief: "Key or group of keys; all groups when left out",
        parse: String,
        placeholder: "key",
        optional: true,
      }],
    },
  },
  docs: describedCommand("explain", "Tell what a key of the config does, why it is there and what belongs to it"),
});

const doctor: Command<CliContext> = buildCommand<{ readonly models: boolean }, [], CliContext>({
  async func({ models }) {
    this.exitWith(await doctorCommand(this.environment, models));
  },
  parameters: {
    flags: {
      models: {
        kind: "boolean",
        brief: "Also hash every file of every downloaded model, as a disk can change bytes without a trace",
        default: false,
      },
    },
  },
  docs: describedCommand("doctor", "Check the machine: runtime, GPU, drivers, ffmpeg, memory, disk"),
});

/** The command that prints a script about all commands, itself among them. */
const completions = (root: () => RouteMap<CliContext>): Command<CliContext> =>
  buildCommand<Record<never, never>, [string], CliContext>({
    func(_flags, shell) {
      this.environment.terminal.write(`${completionScript(shell, commandTable(root(), CONFIG_COMMANDS))}\n`);
    },
    parameters: {
      positional: {
        kind: "tuple",
        parameters: [{ brief: `Shell: ${shellNames.join(", ")}`, parse: String, placeholder: "shell" }],
      },
    },
    docs: describedCommand("completions", "Print a script with which a shell completes commands, flags and values"),
  });

/** What the framework is told to do about errors. */
export interface ProgramErrors {
  /** The words for one that ended a command. */
  describe(error: unknown): string;
  /** The exit code for one that ended a command. */
  exitCode(error: unknown): number;
  /** Takes what is wrong with words before a command has begun. */
  refuse(problem: string): void;
}

/** All commands, called as this program is. */
export function buildProgram({ describe, exitCode, refuse }: ProgramErrors): Application<CliContext> {
  // The framework writes a line for each; all of them belong into one message.
  const noted = (problem: string) => {
    refuse(problem.replace("\nHint: ", "; "));
    return "";
  };
  const routes = {
    train: configCommand("train"),
    plan: configCommand("plan"),
    tune: configCommand("tune"),
    sample,
    push,
    doctor,
    init,
    dashboard,
    explain: explainKey,
    data: buildRouteMap({
      routes: { check: configCommand("data check"), import: configCommand("data import") },
      docs: { brief: "Look at a dataset" },
    }),
    config: buildRouteMap({ routes: { import: configImport }, docs: { brief: "Work with config files" } }),
    lora: loraRoutes,
  };
  const docs = { brief: "Fine-tune CogVideoX video models. Without a command: train" };
  const root: RouteMap<CliContext> = buildRouteMap({
    routes: { ...routes, completions: completions(() => root) },
    docs,
  });
  return buildApplication(root, {
    name: programCall(),
    versionInfo: { currentVersion: metadata.version },
    documentation: { disableAnsiColor: true },
    determineExitCode: exitCode,
    localization: {
      text: {
        ...text_en,
        exceptionWhileRunningCommand: describe,
        exceptionWhileParsingArguments: (error, ansi) => noted(text_en.exceptionWhileParsingArguments(error, ansi)),
        noCommandRegisteredForInput: (words) => noted(text_en.noCommandRegisteredForInput(words)),
      },
    },
  });
}
