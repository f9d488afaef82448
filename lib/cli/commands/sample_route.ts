/** `cogtune sample` as the command-line framework knows it. */
import { buildCommand, type Command } from "@stricli/core";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";
import { groupedFlags } from "../help/flag_lines.ts";
import { sampleCommand } from "./sample_command.ts";
import { SAMPLE_GROUPS, type SampleFlags, sampleFlags } from "./sample_flags.ts";

/** The framework's own list of flags knows no groups; the description has them instead. */
const hidden = Object.fromEntries(
  Object.entries(sampleFlags).map(([name, flag]) => [name, { ...flag, hidden: true }]),
) as unknown as typeof sampleFlags;

const docs = describedCommand("sample", "Make videos with a model and any number of LoRAs");

/** The command. */
export const sample: Command<CliContext> = buildCommand<SampleFlags, [], CliContext>({
  async func(flags) {
    this.exitWith(await sampleCommand(this.environment, flags));
  },
  parameters: { flags: hidden },
  docs: {
    ...docs,
    fullDescription: [docs.fullDescription, ...groupedFlags(SAMPLE_GROUPS, sampleFlags)].join("\n"),
    customUsage: ["--model_path FOLDER --prompt TEXT [--FLAG VALUE]..."],
  },
});
