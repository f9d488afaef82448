/** Checks the dataset of a config and puts what was found into lines. */
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import { checkDataset, type DatasetReport } from "../../data/samples/dataset_check.ts";
import { loadTokenizer } from "../../data/text/tokenizer.ts";
import { UserError } from "../../errors.ts";
import { findModelPath } from "../../models/folder/hub.ts";
import { RELEASED } from "../../models/transformer/config.ts";
import { datasetOptions } from "../../train/data/dataset_options.ts";
import type { DataReport } from "../machine/commands.ts";
import { formatDuration } from "../show/text.ts";

/** Reads every clip and prompt as training would. Throws UserError when the config names no dataset. */
export async function checkData(config: TrainConfig): Promise<DataReport> {
  if (config.data_root === undefined) throw new UserError("No dataset given", "Add --data_root FOLDER");
  const [frames, height, width] = config.train_resolution;
  const model = config.model_path === undefined ? undefined : findModelPath(config.model_path);
  const report = await checkDataset(config.data_root, {
    ...datasetOptions(config),
    frames,
    fps: config.fps,
    size: { height, width },
    fit: config.crop === "fill" ? "crop" : config.crop,
    frameRule: config.frame_selection,
    tokens: RELEASED[config.model ?? "2b"]!.max_text_seq_length,
    tokenizer: model === undefined ? undefined : loadTokenizer(join(model, "tokenizer")),
  });
  return {
    lines: statisticLines(report, `${frames}x${height}x${width}`),
    notes: report.warnings,
    problems: report.problems,
  };
}

function statisticLines({ statistics }: DatasetReport, resolution: string): string[] {
  const { samples, resolutions, frameRates, frameCounts, seconds, tooShort, nearStill } = statistics;
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([value, count]) => `${value} (${count})`).join(", ") || "none";
  return [
    `Clips:        ${samples}, ${formatDuration(seconds)} in all`,
    `Sizes:        ${list(resolutions)}`,
    `Frame rates:  ${list(frameRates)}`,
    `Frames:       ${list(frameCounts)}`,
    `For training at ${resolution}: ${tooShort} too short (their last frame is repeated), ${nearStill} nearly still`,
  ];
}
