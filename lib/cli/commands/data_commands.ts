/** `cogtune data check` and `cogtune data import`. */
import { collectConfig, type TrainConfig } from "../../config/config.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import { FORMATS } from "../../data/dataset/formats.ts";
import { writeLists } from "../../data/dataset/write_lists.ts";
import { UserError } from "../../errors.ts";
import { requireConfig } from "../../train/checks/preflight.ts";
import { datasetOptions } from "../../train/data/dataset_options.ts";
import type { Environment } from "../machine/environment.ts";
import type { DataReport } from "../machine/commands.ts";
import type { Terminal } from "../machine/terminal.ts";
import { configArguments } from "../settings/arguments.ts";
import { type OwnFlag, takeOwn } from "../settings/own_flags.ts";
import { dataRoot } from "./data_report.ts";

/** What `data check` takes besides settings. */
export const dataCheckFlags: readonly OwnFlag[] = [
  { name: "html", takes: "PAGE.html", brief: "Also write a page of the clips as training sees them" },
];

/** What `data import` takes besides settings. */
export const dataImportFlags: readonly OwnFlag[] = [
  { name: "to", takes: "FOLDER", brief: "Folder to write the lists to" },
];

/** The config of words about a dataset: mostly for a released model, and the tiny default would warn of every clip. */
async function readConfig(words: readonly string[]): Promise<TrainConfig> {
  const collected = await collectConfig(configArguments(words, "5b-lora"));
  return (await requireConfig(collected, { training: false })).config;
}

/** Checks a dataset; returns the exit code, 2 when something stops training. */
export async function dataCheckCommand(environment: Environment, words: readonly string[]): Promise<number> {
  const { commands, terminal, json } = environment;
  const { own, settings } = takeOwn(words, dataCheckFlags);
  const config = await readConfig(settings);
  await environment.ensureSystem((line) => terminal.writeError(`${line}\n`));
  const report = await commands.checkData(config, own.get("html"));
  const { notes, problems } = report;
  if (json) terminal.json({ type: "data check", ...report.figures, notes, problems });
  else showReport(terminal, report);
  return problems.length === 0 ? 0 : 2;
}

function showReport(terminal: Terminal, { lines, notes, problems }: DataReport): void {
  for (const line of lines) terminal.write(`${line}\n`);
  for (const note of notes) terminal.write(`note: ${note}\n`);
  for (const problem of problems) terminal.write(`problem: ${problem}\n`);
}

/** Writes the lists of a dataset into a folder; returns the exit code. */
export async function dataImportCommand({ terminal }: Environment, words: readonly string[]): Promise<number> {
  const { own, settings } = takeOwn(words, dataImportFlags);
  const folder = own.get("to");
  if (folder === undefined || folder === "") throw new UserError("No folder to write to", "Add --to FOLDER");
  const config = await readConfig(settings);
  const root = dataRoot(config);
  // The identifier token stays a setting of the run.
  const { items, format, warnings } = await readDataset(root, { ...datasetOptions(config), images: true, idToken: "" });
  const { files, outside } = await writeLists(items, folder);
  for (const warning of warnings) terminal.write(`note: ${warning}\n`);
  terminal.write(`Read ${items.length} samples as ${format}; wrote ${files.join(", ")}\n`);
  terminal.write(`Use them with: --data_root ${folder}${outside ? " --allow_outside true" : ""}\n`);
  return 0;
}

/** The layouts that are read, for the help of both commands. */
export function layoutHelp(): string {
  return FORMATS.flatMap(({ name, title, example }) => [
    `${name}: ${title}`,
    ...example.split("\n").map((line) => `    ${line}`),
    "",
  ]).join("\n");
}
