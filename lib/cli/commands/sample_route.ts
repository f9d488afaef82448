/** `cogtune sample` as the command-line framework knows it. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Environment } from "../machine/environment.ts";
import { sampleCommand } from "./sample_command.ts";
import { type SampleFlags, sampleFlags } from "./sample_flags.ts";

/** What the command needs of the framework's context. */
export interface SampleContext extends CommandContext {
  readonly environment: Environment;
  exitWith(code: number): void;
}

/** The command. */
export const sample: Command<SampleContext> = buildCommand<SampleFlags, [], SampleContext>({
  async func(flags) {
    this.exitWith(await sampleCommand(this.environment, flags));
  },
  parameters: { flags: sampleFlags },
  docs: { brief: "Make videos with a model and any number of LoRAs" },
});
