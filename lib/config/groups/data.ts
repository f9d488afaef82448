/** What is trained on, and how clips become tensors. */
import { z } from "zod";
import { FORMATS } from "../../data/dataset/formats.ts";

/** Frames, height and width of a training clip; the sizes are pixels. */
export type Resolution = readonly [frames: number, height: number, width: number];

const resolutionText = /^[0-9]+x[0-9]+x[0-9]+$/;
const resolutionSchema = z.union([
  z.string().regex(resolutionText),
  z.tuple([z.int().min(1), z.int().min(1), z.int().min(1)]),
]).transform((value): Resolution => {
  const [frames, height, width] = typeof value === "string" ? value.split("x").map(Number) : value;
  return [frames!, height!, width!];
});

const bucketSchema = z.string().regex(/^[1-9][0-9]*x[1-9][0-9]*x[1-9][0-9]*$/);

/** Data. */
export const data = z.strictObject({
  data_root: z.string().min(1).optional().describe(
    "Folder of the dataset, or the file of a table of clips or of a list of datasets.",
  ),
  dataset_format: z.enum(["auto", ...FORMATS.map(({ name }) => name)]).default("auto").describe(
    "How the dataset is laid out; found out by what the folder holds when `auto`.",
  ),
  caption_column: z.string().min(1).default("prompts.txt").describe(
    "List of prompts, one per line, below `data_root`; or the column of prompts in a table.",
  ),
  video_column: z.string().min(1).default("videos.txt").describe(
    "List of clips, one path per line, below `data_root`; or the column of clips in a table.",
  ),
  image_column: z.string().min(1).optional().describe(
    "List or column of first-frame images for image to video. When unset, images.txt where it exists, else the first " +
      "frame of each clip.",
  ),
  allow_outside: z.boolean().default(false).describe(
    "Accept clips outside the folder of the dataset, as lists with absolute paths or links name them.",
  ),
  prompt: z.string().min(1).optional().describe("Prompt of the clips that have none of their own."),
  id_token: z.string().optional().describe("Text put literally in front of every training prompt."),
  caption_dropout: z.number().min(0).max(1).default(0).describe(
    "Probability with which a clip's prompt is replaced by the empty one, which guidance compares with when sampling; " +
      "0.1 is usual.",
  ),
  train_resolution: resolutionSchema.optional().describe(
    "Frames x height x width of a training clip, as 49x480x720 or [49, 480, 720]; sizes in pixels. The shape " +
      "the model was trained at when unset. With `buckets`, the shape of validation videos.",
  ),
  buckets: z.array(bucketSchema).default([]).describe(
    "Shapes as 49x480x720 25x480x720: every clip is trained at the one that fits it best, and every batch is of one " +
      "shape. When empty, all clips have `train_resolution`.",
  ),
  frame_selection: z.enum(["time", "stride"]).default("time").describe(
    "Which frames of a longer clip are used: equal steps in time at `fps`, or every n-th frame so that the " +
      "whole clip is covered.",
  ),
  fps: z.number().positive().max(1000).optional().describe(
    "Frames per second that `frame_selection: time` samples at. The rate the model was trained at when unset: " +
      "8, or 16 for 1.5.",
  ),
  crop: z.enum(["fill", "letterbox", "stretch"]).default("fill").describe(
    "How a clip of another aspect ratio is fitted: scaled to cover and cropped, scaled to fit and padded, or " +
      "distorted.",
  ),
  cache_dir: z.string().min(1).optional().describe(
    "Folder of encoded clips and prompts. `cache` below `data_root` when unset.",
  ),
  cache_limit: z.number().min(0).default(100).describe(
    "Size in GiB above which entries of the cache that no run uses are removed, those unused longest first.",
  ),
}).meta({ title: "Data" });
