/** Checks the dataset of a config and puts what was found into lines and a page. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import { checkDataset, type DatasetReport } from "../../data/samples/dataset_check.ts";
import { loadTokenizer, type Tokenizer } from "../../data/text/tokenizer.ts";
import { UserError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { statIfThere } from "../../io/file_operations.ts";
import { findModelPath } from "../../models/folder/hub.ts";
import { RELEASED } from "../../models/transformer/config.ts";
import { problemsBesides } from "../../train/checks/preflight.ts";
import { datasetOptions, shapeOptions } from "../../train/data/dataset_options.ts";
import type { DataReport } from "../machine/commands.ts";
import { datasetPage } from "../show/dataset_page.ts";
import { formatDuration } from "../show/text.ts";

/**
 * Reads every clip and prompt as training would, and asks what training asks about everything else; with `html`, writes
 * a page of the clips.
 *
 * @throws {UserError} when the config names no dataset, or the page cannot be written.
 */
export async function checkData(config: TrainConfig, html?: string): Promise<DataReport> {
  const root = dataRoot(config);
  if (html !== undefined) requirePlace(html);
  const checked = await checkDataset(root, {
    ...datasetOptions(config),
    ...shapeOptions(config),
    fit: config.crop === "fill" ? "crop" : config.crop,
    tokens: RELEASED[config.model ?? "2b"]!.max_text_seq_length,
    tokenizer: tokenizerOf(config),
    sheets: html !== undefined,
  });
  const besides = await problemsBesides(config, { clips: checked.problems.length === 0 });
  const problems = [...checked.problems, ...besides.problems];
  const notes = [...checked.warnings, ...besides.warnings];
  const report = { ...checked, problems, warnings: notes };
  const lines = statisticLines(report);
  if (html !== undefined) {
    await writeFileAtomic(html, datasetPage(root, lines, report));
    lines.push(`Page:         ${html}`);
  }
  // Pictures are for the page.
  const clips = report.statistics.clips.map(({ sheet: _sheet, ...clip }) => clip);
  const figures = { ...report.statistics, clips };
  return { lines, notes, problems, figures };
}

/** Makes sure that a page can be written before every clip is decoded for it. */
function requirePlace(page: string): void {
  const why = !existsSync(dirname(page))
    ? "its folder does not exist"
    : statIfThere(page)?.isDirectory() === true
    ? "a folder stands there"
    : undefined;
  if (why !== undefined) throw new UserError(`Cannot write "${page}": ${why}`, "give another path to --html");
}

/** The tokenizer of the model that a config names, where it can be read; the check of the model says why not. */
function tokenizerOf({ model_path }: TrainConfig): Tokenizer | undefined {
  const model = model_path === undefined ? undefined : findModelPath(model_path);
  try {
    return model === undefined ? undefined : loadTokenizer(join(model, "tokenizer"));
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** The dataset that a config names. */
export function dataRoot({ data_root }: TrainConfig): string {
  if (data_root !== undefined) return data_root;
  throw new UserError("No dataset given", "Add --data_root FOLDER");
}

function statisticLines({ statistics }: DatasetReport): string[] {
  const { samples, resolutions, frameRates, frameCounts, buckets, seconds, used, tooShort, nearStill, longPrompts } =
    statistics;
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([value, count]) => `${value} (${count})`).join(", ") || "none";
  return [
    `Clips:        ${samples}, ${formatDuration(seconds)} in all`,
    `Sizes:        ${list(resolutions)}`,
    `Frame rates:  ${list(frameRates)}`,
    `Frames:       ${list(frameCounts)}`,
    ...bucketLine(statistics),
    ...tokenLine(statistics.clips.map(({ tokens }) => tokens)),
    `For training at ${Object.keys(buckets).join(", ")}: ${
      formatDuration(used)
    } are used; ${tooShort} too short (their last frame is ` +
    `repeated), ${nearStill} nearly still, ${longPrompts} prompts too long`,
  ];
}

/** How many clips each of several buckets gets, and how much of their pictures a crop cuts away on average. */
function bucketLine({ buckets, clips }: DatasetReport["statistics"]): string[] {
  const entries = Object.entries(buckets).map(([bucket, count]) => {
    if (count === 0) return `${bucket} (none)`;
    const cut = clips.reduce((sum, { shape, cropped }) => shape === bucket ? sum + cropped : sum, 0) / count;
    return `${bucket} (${count}, ${Math.round(100 * cut)} % cut)`;
  });
  return entries.length < 2 ? [] : [`Buckets:      ${entries.join(", ")}`];
}

/** How long prompts are, as far as their clips could be read. */
function tokenLine(tokens: readonly number[]): string[] {
  return tokens.length === 0 ? [] : [`Prompts:      ${Math.min(...tokens)} to ${Math.max(...tokens)} tokens`];
}
