/** `cogtune push`: its words and flags. */
import { buildCommand, type Command } from "@stricli/core";
import { UserError } from "../../errors.ts";
import { parseHubId } from "../../models/folder/hub.ts";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";
import { pushCheckpoint } from "./push.ts";

interface PushFlags {
  readonly repo: string;
  readonly private: boolean;
  readonly dry_run: boolean;
}

function parseRepo(text: string): string {
  const id = parseHubId(text);
  if (id !== undefined && id.revision === undefined) return text;
  throw new UserError(`"${text}" is no repository of a hub`, "give owner/name");
}

/** The command. */
export const push: Command<CliContext> = buildCommand<PushFlags, [string], CliContext>({
  async func({ repo, private: isPrivate, dry_run: dryRun }, path) {
    const { terminal } = this.environment;
    const address = await pushCheckpoint(terminal, path, { repo, isPrivate, dryRun });
    if (address !== undefined) terminal.write(`Pushed to ${address}\n`);
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{
        brief: "Checkpoint, or output folder of a run for its best model or last checkpoint",
        parse: String,
        placeholder: "checkpoint",
      }],
    },
    flags: {
      repo: { kind: "parsed", parse: parseRepo, brief: "Repository to make or update", placeholder: "owner/name" },
      private: {
        kind: "boolean",
        brief: "Make it private when it does not exist",
        default: false,
        withNegated: false,
      },
      dry_run: {
        kind: "boolean",
        brief: "List the files with their sizes and send nothing",
        default: false,
        withNegated: false,
      },
    },
  },
  docs: describedCommand("push", "Upload a trained model with a model card to a repository of a hub", [
    "Sent are the LoRA file or the transformer folder, a README.md that names base model, trigger word and settings, and " +
    "the validation videos of this step; never state for resuming, datasets and paths.",
    "",
    "HF_TOKEN   access token that may write to the repository",
    "HF_ENDPOINT   address of another hub",
  ]),
});
