/** `cogtune sample` as the command-line framework knows it. */
import { buildCommand, type Command } from "@stricli/core";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";
import { sampleCommand } from "./sample_command.ts";
import { type SampleFlags, sampleFlags } from "./sample_flags.ts";

/** The command. */
export const sample: Command<CliContext> = buildCommand<SampleFlags, [], CliContext>({
  async func(flags) {
    this.exitWith(await sampleCommand(this.environment, flags));
  },
  parameters: { flags: sampleFlags },
  docs: describedCommand("sample", "Make videos with a model and any number of LoRAs"),
});
