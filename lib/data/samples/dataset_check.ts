/** Looks at every clip and picture of a dataset before any GPU time is spent on it. */
import pLimit from "p-limit";
import { UserError } from "../../errors.ts";
import { statIfThere } from "../../io/file_operations.ts";
import { sha256File } from "../../io/hash.ts";
import { collectDataset, type DatasetItem } from "../dataset/dataset.ts";
import type { DatasetOptions } from "../dataset/format.ts";
import { countTokens, promptLengthNotes } from "../text/prompt_length.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { contactSheet } from "../video/contact_sheet.ts";
import { selectFrames } from "../video/frames.ts";
import { fitGeometry, type FitMode, type Size } from "../video/geometry.ts";
import { type Probe, probe } from "../video/probe.ts";
import { decodeFrames, decodeImage, type RgbFrames } from "../video/video.ts";
import { chooseShape, keptShare, shapeName, type ShapeOptions, shapesOf } from "./buckets.ts";
import { probeClip } from "./sample_pixels.ts";

/** Options of {@linkcode checkDataset}: how training will use the clips. */
export interface DatasetCheckOptions extends Omit<DatasetOptions, "frames">, ShapeOptions {
  /** How clips of another shape are fitted ("crop"). */
  readonly fit?: FitMode;
  /** Tokens that the text encoder reads of a prompt, the end token included. */
  readonly tokens: number;
  /** Counts tokens; without it words are counted, which are fewer. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Also make a sheet of frames of each clip (false). */
  readonly sheets?: boolean;
}

/** What was found out about one clip. */
export interface ClipReport {
  readonly name: string;
  readonly prompt: string;
  /** Tokens of the prompt; its words where no tokenizer is known, which are not more. */
  readonly tokens: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly frames: number;
  readonly duration: number;
  readonly codec: string;
  /** The shape that it is trained at, as "49x480x720". */
  readonly shape: string;
  /** Frame numbers that training will use. */
  readonly indices: readonly number[];
  /** How many of them repeat the last frame because the clip is too short. */
  readonly padded: number;
  /** Share of the picture that the crop cuts away, 0 to 1. */
  readonly cropped: number;
  /** Seconds from the first frame that training uses to the end of the last. */
  readonly used: number;
  /** Mean change from one used frame to the next in grey levels of 255. */
  readonly motion: number;
  /** What deserves a look, without the name in front. */
  readonly notes: readonly string[];
  /** JPEG of some of the used frames. */
  readonly sheet?: Uint8Array<ArrayBuffer>;
}

/** Numbers over the whole dataset. */
export interface DatasetStatistics {
  readonly samples: number;
  /** Clips per size, such as `{ "640x360": 3 }`; likewise per frame rate (rounded to 0.01) and number of frames. */
  readonly resolutions: Readonly<Record<string, number>>;
  readonly frameRates: Readonly<Record<string, number>>;
  readonly frameCounts: Readonly<Record<string, number>>;
  /** Length of all clips in seconds, and how much of it training uses. */
  /** Clips per shape that they are trained at, every bucket among them. */
  readonly buckets: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly used: number;
  readonly tooShort: number;
  readonly nearStill: number;
  readonly longPrompts: number;
  readonly clips: readonly ClipReport[];
}

/** Everything {@linkcode checkDataset} found. */
export interface DatasetReport {
  /** What stops training. */
  readonly problems: readonly string[];
  /** What deserves a look. */
  readonly warnings: readonly string[];
  readonly statistics: DatasetStatistics;
}

/**
 * Below this mean change a clip teaches the model to stand still. A frozen picture measures 0.00 after H.264, cartoons
 * at 8 frames per second 3 to 6, the example clips 5 to 18.
 */
const STILL_LEVELS = 0.3;

/**
 * A clip whose used frames are darker than this on average is taken for black: video black is 0, night scenes 15 and
 * more.
 */
const BLACK_LEVELS = 6;

/** ffmpeg's names of pixel formats that hold transparency. */
const HAS_ALPHA = /^(rgba|bgra|argb|abgr|yuva|gbrap|ya\d)/;

/** Motion is judged on a picture this small: grain averages out (noise of 20 levels leaves 2), movement stays. */
const MOTION_SIZE: Size = { width: 16, height: 12 };

/** Clips that are decoded side by side: ffmpeg has threads of its own, and more clips at once wait for the disk. */
const CLIPS_AT_ONCE = 4;

/** A crop that keeps less than this share of the picture is mentioned. */
const MIN_KEPT = 0.6;

/** Enlarging by more than this factor is mentioned. */
const MAX_ENLARGEMENT = 1.5;

/** Mean absolute difference between neighbouring frames, in levels; 0 for a single frame. */
function motionLevels({ data, frames }: RgbFrames): number {
  const size = data.length / frames;
  let sum = 0;
  for (let i = size; i < data.length; i++) sum += Math.abs(data[i]! - data[i - size]!);
  return frames < 2 ? 0 : sum / (data.length - size);
}

function shapeWarnings(info: Probe, cropped: number, size: Size, fit: FitMode): string[] {
  const warnings: string[] = [];
  const wanted = `${size.width}x${size.height}`;
  const found = `${info.width}x${info.height}`;
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
async function checkClip(item: DatasetItem, options: DatasetCheckOptions): Promise<ClipReport> {
  const info = await probeClip(item, options);
  const { fps: rate, frameRule: rule = "time", fit = "crop" } = options;
  const shape = chooseShape(info, options);
  const choice = selectFrames(info, { frames: shape.frames, fps: rate, rule });
  const distinct = [...new Set(choice.indices)];
  const geometry = fitGeometry(info, MOTION_SIZE, "stretch");
  const small = await decodeFrames(item.videoPath, distinct, { geometry, label: item.name });
  const motion = motionLevels(small);
  const level = small.data.reduce((sum, value) => sum + value, 0) / small.data.length;
  const cropped = fit === "crop" ? 1 - keptShare(info, shape.size) : 0;
  const notes = shapeWarnings(info, cropped, shape.size, fit);
  if (choice.warning !== undefined) notes.push(choice.warning);
  if (level < BLACK_LEVELS) notes.push(`is black (mean level ${level.toFixed(1)} of 255)`);
  else if (shape.frames > 1 && motion < STILL_LEVELS) {
    notes.push(
      `hardly moves (${motion.toFixed(2)} of 255 levels between frames): models trained on stills stop moving`,
    );
  }
  if (info.interlaced) notes.push("is interlaced: the lines of the first moment of each frame are used");
  if (HAS_ALPHA.test(info.pixelFormat)) {
    notes.push("has transparency, which is left out: transparent parts show the colour that the file keeps there");
  }
  if (info.colour === "hdr") notes.push("is HDR: its range is mapped to that of a screen (BT.709)");
  if (item.imagePath !== undefined) notes.push(...await checkImage(item.imagePath, info));
  const { width, height, fps, frames, duration, codec } = info;
  const { indices, padded } = choice;
  const used = info.timestamps[distinct.at(-1)!]! - info.timestamps[distinct[0]!]! + 1 / fps;
  const cut = { geometry: fitGeometry(info, shape.size, fit), label: item.name };
  const tokens = countTokens(item.prompt, options.tokens, options.tokenizer);
  return {
    ...{
      name: item.name,
      prompt: item.prompt,
      tokens,
      width,
      height,
      fps,
      frames,
      duration,
      codec,
      shape: shapeName(shape),
    },
    ...{ indices, padded, cropped, used, motion, notes },
    ...(options.sheets === true ? { sheet: await contactSheet(item.videoPath, indices, cut) } : {}),
  };
}

/** Clips of equal content under several names, found by size first. */
async function sameContent(items: readonly DatasetItem[]): Promise<string[]> {
  const paths = new Map(items.map((item) => [item.videoPath, item]));
  const sized = [...paths].map(([path, item]) => ({
    path,
    item,
    size: statIfThere(path)?.size,
  }));
  const first = new Map<string, DatasetItem>();
  const notes: string[] = [];
  for (const { path, item, size } of sized) {
    if (!sized.some((other) => other.path !== path && other.size === size)) continue;
    const hash = await sha256File(path);
    const earlier = first.get(hash);
    if (earlier === undefined) first.set(hash, item);
    else notes.push(`${item.name}: has the same content as ${earlier.name}`);
  }
  return notes;
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

/** A count of none for every shape, in their order. */
function emptyBuckets(options: ShapeOptions): Record<string, number> {
  return Object.fromEntries(shapesOf(options).map((shape) => [shapeName(shape), 0]));
}

function identifierNotes(items: readonly DatasetItem[], idToken: string): string[] {
  if (idToken === "") return [];
  const repeated = items.filter(({ prompt }) => prompt.slice(idToken.length).includes(idToken.trim()));
  const [first] = repeated;
  if (first === undefined) return [];
  return [`${first.name}: the prompt contains the identifier token already (${repeated.length} such prompts)`];
}

/**
 * Checks a dataset as training will use it: reads the lists, probes every clip and picture, decodes the frames that
 * will be used, and measures how bright they are and how much they move.
 *
 * Mistakes in the data are returned, all of them, and never thrown.
 */
export async function checkDataset(folder: string, options: DatasetCheckOptions): Promise<DatasetReport> {
  const { items, problems, warnings } = await collectDataset(folder, {
    ...options,
    frames: Math.min(...shapesOf(options).map(({ frames }) => frames)),
  });
  // What is repeated in an epoch is looked at once.
  const distinct = [...new Map(items.map((item) => [`${item.videoPath}\0${item.imagePath}`, item])).values()];
  const checked = await pLimit(CLIPS_AT_ONCE).map(distinct, async (item) => {
    try {
      return { clip: await checkClip(item, options) };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return { problem: error.summary };
    }
  });
  const clips = checked.flatMap(({ clip }) => clip ?? []);
  const long = promptLengthNotes(distinct, options.tokens, options.tokenizer);
  const sum = (pick: (clip: ClipReport) => number) => clips.reduce((total, clip) => total + pick(clip), 0);
  return {
    problems: [...problems, ...checked.flatMap(({ problem }) => problem ?? [])],
    warnings: [
      ...warnings,
      ...clips.flatMap(({ name, notes }) => notes.map((note) => `${name}: ${note}`)),
      ...await sameContent(distinct),
      ...long,
      ...identifierNotes(distinct, options.idToken ?? ""),
    ],
    statistics: {
      samples: items.length,
      resolutions: histogram(clips.map((clip) => `${clip.width}x${clip.height}`)),
      frameRates: histogram(clips.map((clip) => Number(clip.fps.toFixed(2)))),
      frameCounts: histogram(clips.map((clip) => clip.frames)),
      buckets: { ...emptyBuckets(options), ...histogram(clips.map(({ shape }) => shape)) },
      seconds: sum(({ duration }) => duration),
      used: sum(({ used }) => used),
      tooShort: clips.filter((clip) => clip.padded > 0).length,
      nearStill: clips.filter(({ indices, motion }) => indices.length > 1 && motion < STILL_LEVELS).length,
      longPrompts: long.length,
      clips,
    },
  };
}
