/** Looks at every clip and picture of a dataset before any GPU time is spent on it. */
import { UserError } from "../../errors.ts";
import { collectDataset, type DatasetItem, type DatasetOptions } from "../dataset/dataset.ts";
import { type FrameRule, selectFrames } from "../video/frames.ts";
import { fitGeometry, type FitMode, type Size } from "../video/geometry.ts";
import { type Probe, probe } from "../video/probe.ts";
import { decodeFrames, decodeImage, type RgbFrames } from "../video/video.ts";

/** Options of {@linkcode checkDataset}: how training will use the clips. */
export interface DatasetCheckOptions extends DatasetOptions {
  /** Frames F per sample. */
  frames: number;
  /** Frame rate of the model: 8 for CogVideoX 1.0, 16 for 1.5. */
  fps: number;
  /** Training resolution in pixels. */
  size: Size;
  /** How clips of another shape are fitted ("crop"). */
  fit?: FitMode;
  /** How frames are chosen ("time"). */
  frameRule?: FrameRule;
  /** Tokens of a prompt, end token included; without it prompt lengths are not checked. */
  countTokens?: (prompt: string) => number;
  /** Most tokens the text encoder takes (226 or 224). */
  maxTokens?: number;
  /** Clips looked at side by side (4). */
  concurrency?: number;
  /** Called after each clip. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** What was found out about one clip. */
export interface ClipReport {
  name: string;
  width: number;
  height: number;
  fps: number;
  frames: number;
  duration: number;
  codec: string;
  /** Frame numbers that training will use. */
  indices: number[];
  /** How many of them repeat the last frame because the clip is too short. */
  padded: number;
  /** Share of the picture that the crop cuts away, 0 to 1. */
  cropped: number;
  /** Mean change from one used frame to the next in grey levels of 255. */
  motion: number;
}

/** Numbers over the whole dataset. */
export interface DatasetStatistics {
  samples: number;
  /** Clips per size, such as `{ "640x360": 3 }`; likewise per frame rate (rounded to 0.01) and number of frames. */
  resolutions: Record<string, number>;
  frameRates: Record<string, number>;
  frameCounts: Record<string, number>;
  /** Length of all clips in seconds. */
  seconds: number;
  tooShort: number;
  nearStill: number;
  longPrompts: number;
  clips: ClipReport[];
}

/** Everything {@linkcode checkDataset} found. */
export interface DatasetReport {
  items: DatasetItem[];
  /** What stops training. */
  problems: string[];
  /** What deserves a look. */
  warnings: string[];
  statistics: DatasetStatistics;
}

/**
 * Below this mean change a clip teaches the model to stand still. A frozen picture measures 0.00 after H.264, cartoons
 * at 8 frames per second 3 to 6, the example clips 5 to 18.
 */
const STILL_LEVELS = 0.3;

/** Motion is judged on a picture this small: grain averages out (noise of 20 levels leaves 2), movement stays. */
const MOTION_SIZE: Size = { width: 16, height: 12 };

/** A crop that keeps less than this share of the picture is mentioned. */
const MIN_KEPT = 0.6;

/** Enlarging by more than this factor is mentioned. */
const MAX_ENLARGEMENT = 1.5;

/** Mean absolute difference between neighbouring frames, in levels; 0 for a single frame. */
function motionLevels({ data, frames }: RgbFrames): number {
  const size = data.length / frames;
  let sum = 0;
  for (let i = size; i < data.length; i++) sum += Math.abs(data[i] - data[i - size]);
  return frames < 2 ? 0 : sum / (data.length - size);
}

/** Share of the picture's area that a crop to the target's shape loses. */
function croppedShare(info: Probe, target: Size): number {
  const ratio = (info.width * info.pixelAspect / info.height) / (target.width / target.height);
  return 1 - Math.min(ratio, 1 / ratio);
}

function shapeWarnings(info: Probe, cropped: number, options: DatasetCheckOptions): string[] {
  const { size, fit = "crop" } = options, warnings: string[] = [];
  const wanted = `${size.width}x${size.height}`, found = `${info.width}x${info.height}`;
  if (cropped > 1 - MIN_KEPT) {
    const share = Math.round(cropped * 100);
    warnings.push(`is ${found}: cropping to ${wanted} cuts ${share} % of the picture away (letterbox keeps all of it)`);
  }
  const { scaled } = fitGeometry(info, size, fit);
  const enlargement = Math.max(scaled.width / info.width, scaled.height / info.height);
  if (enlargement > MAX_ENLARGEMENT) {
    warnings.push(`is ${found}: enlarged ${enlargement.toFixed(1)} times for ${wanted}`);
  }
  return warnings;
}

/** Probes one clip and decodes the frames training will use, so that damage shows up here and not hours later. */
async function checkClip(
  item: DatasetItem,
  options: DatasetCheckOptions,
): Promise<{ report: ClipReport; warnings: string[] }> {
  const info = await probe(item.videoPath, item.name);
  const rule = options.frameRule ?? "time";
  const choice = selectFrames(info, { frames: options.frames, fps: options.fps, rule });
  const distinct = [...new Set(choice.indices)];
  const geometry = fitGeometry(info, MOTION_SIZE, "stretch");
  const { signal } = options;
  const small = await decodeFrames(item.videoPath, distinct, { geometry, label: item.name, ...(signal && { signal }) });
  const motion = motionLevels(small);
  const cropped = (options.fit ?? "crop") === "crop" ? croppedShare(info, options.size) : 0;
  const warnings = shapeWarnings(info, cropped, options);
  if (choice.warning !== undefined) warnings.push(choice.warning);
  if (options.frames > 1 && motion < STILL_LEVELS) {
    warnings.push(
      `hardly moves (${motion.toFixed(2)} of 255 levels between frames): models trained on stills stop moving`,
    );
  }
  if (item.imagePath !== undefined) warnings.push(...await checkImage(item.imagePath, info));
  const { width, height, fps, frames, duration, codec } = info;
  const { indices, padded } = choice;
  const report = { name: item.name, width, height, fps, frames, duration, codec, indices, padded, cropped, motion };
  return { report, warnings: warnings.map((warning) => `${item.name}: ${warning}`) };
}

async function checkImage(path: string, clip: Probe): Promise<string[]> {
  const picture = await probe(path);
  await decodeImage(path, { geometry: fitGeometry(picture, MOTION_SIZE, "stretch") });
  const shape = (size: Probe) => size.width * size.pixelAspect / size.height;
  // 2 % is a rounding of the size; more means that picture and clip show different parts of the scene.
  if (Math.abs(shape(picture) / shape(clip) - 1) <= 0.02) return [];
  return [
    `its picture has another shape (${picture.width}x${picture.height}) than the clip (${clip.width}x${clip.height})`,
  ];
}

function histogram(values: (string | number)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

function checkPrompts(items: DatasetItem[], options: DatasetCheckOptions): string[] {
  const { countTokens, maxTokens, idToken = "" } = options;
  const warnings: string[] = [];
  if (countTokens !== undefined && maxTokens !== undefined) {
    for (const { name, prompt } of items) {
      const tokens = countTokens(prompt);
      if (tokens > maxTokens) {
        warnings.push(`${name}: the prompt has ${tokens} tokens, what follows token ${maxTokens} is cut off`);
      }
    }
  }
  const repeated = idToken === ""
    ? []
    : items.filter((item) => item.prompt.slice(idToken.length).includes(idToken.trim()));
  if (repeated.length > 0) {
    warnings.push(
      `${repeated[0].name}: the prompt contains the identifier token already (${repeated.length} such prompts)`,
    );
  }
  return warnings;
}

/** Runs `work` on every item, a few at a time, in order of start. */
async function forEachLimited<T>(
  items: T[],
  limit: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      await work(items[index], index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
}

/**
 * Checks a dataset as training will use it: reads the lists, probes every clip and picture, decodes the frames that
 * will be used, and measures how much they move.
 *
 * Mistakes in the data are returned, all of them, and never thrown.
 */
export async function checkDataset(folder: string, options: DatasetCheckOptions): Promise<DatasetReport> {
  const { items, problems, warnings } = await collectDataset(folder, options);
  const clips: (ClipReport | undefined)[] = items.map(() => undefined);
  const clipWarnings: string[][] = items.map(() => []), clipProblems: string[][] = items.map(() => []);
  let done = 0;
  await forEachLimited(items, options.concurrency ?? 4, async (item, index) => {
    options.signal?.throwIfAborted();
    try {
      const { report, warnings } = await checkClip(item, options);
      clips[index] = report;
      clipWarnings[index] = warnings;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      clipProblems[index] = [error.message.split("\n")[0]];
    }
    options.onProgress?.(++done, items.length);
  });
  const promptWarnings = checkPrompts(items, options);
  const found = clips.filter((clip) => clip !== undefined);
  return {
    items,
    problems: [...problems, ...clipProblems.flat()],
    warnings: [...warnings, ...clipWarnings.flat(), ...promptWarnings],
    statistics: {
      samples: items.length,
      resolutions: histogram(found.map((clip) => `${clip.width}x${clip.height}`)),
      frameRates: histogram(found.map((clip) => Number(clip.fps.toFixed(2)))),
      frameCounts: histogram(found.map((clip) => clip.frames)),
      seconds: found.reduce((sum, clip) => sum + clip.duration, 0),
      tooShort: found.filter((clip) => clip.padded > 0).length,
      nearStill: options.frames > 1 ? found.filter((clip) => clip.motion < STILL_LEVELS).length : 0,
      longPrompts: promptWarnings.filter((warning) => warning.includes("is cut off")).length,
      clips: found,
    },
  };
}
