/** Answers as a YAML file that `train` takes as it is and people go on from. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { resolveConfig } from "../../config/config.ts";
import { programCall, quoted } from "../show/program_call.ts";
import { shortPath } from "../show/short_path.ts";
import { formatBytes } from "../show/text.ts";
import type { Answers } from "./questions.ts";
import { type Block, fitRecipe, recipe } from "./recipe.ts";

function blocksOf({ model, data, method, memory, trigger }: Answers, folder: string): Block[] {
  const place = (path: string) => existsSync(path) ? shortPath(resolve(path), folder) : path;
  const token: Block[] = trigger === "" ? [] : [{
    comment: "Put in front of every prompt: the word that calls what is learnt.",
    keys: { id_token: `${trigger} ` },
  }];
  const fit = fitRecipe(model, method, memory);
  return [
    recipe(model, method),
    {
      comment: existsSync(model.path)
        ? "The model's folder."
        : "The model on the hub, downloaded when a run first needs it; a folder does as well.",
      keys: { model_path: place(model.path) },
    },
    { comment: `The dataset: ${data.clips} clips when this was written.`, keys: { data_root: place(data.root) } },
    ...token,
    {
      comment: `Forecast: ${formatBytes(fit.gpuBytes)} of GPU memory, with the fastest switches that fit; a run that ` +
        "needs more than this is refused.",
      keys: { gpu_memory: memory, ...fit.switches },
    },
  ];
}

/**
 * The text to be written as `file`.
 *
 * @throws {UserError} when the run fits no GPU of that memory.
 */
export function configText(answers: Answers, file: string): string {
  const folder = dirname(resolve(file));
  const blocks = blocksOf(answers, folder).map(({ comment, keys }) =>
    `# ${comment}\n${stringify(keys, { lineWidth: 0, flowCollectionPadding: false })}`
  );
  const text = [header(file, folder), ...blocks, FURTHER].join("\n");
  // Nothing is written that a run would refuse.
  resolveConfig(text, { fileName: file });
  return text;
}

/** What the file is, and how to go on. */
function header(file: string, folder: string): string {
  const schema = new URL(import.meta.resolve("../../../configs/schema.json"));
  const place = schema.protocol === "file:" ? shortPath(fileURLToPath(schema), folder) : schema.href;
  return `# yaml-language-server: $schema=${place}
# Written by init; change what you like. It runs with: ${programCall()} train --config ${quoted(file)}
# What a key does, and why: ${programCall()} explain KEY
`;
}

/** Keys that most people look for next. */
const FURTHER = `# Worth a look, at their defaults:
# train_epochs: 10       # or train_steps
# learning_rate: 0.00002
# checkpointing_steps: 200
# do_validation: false   # sample videos while training; needs validation_dir, validation_prompts, validation_steps
`;
