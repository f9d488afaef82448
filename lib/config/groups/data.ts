/** What is trained on, and how clips become tensors. */
import { z } from "zod";

/** Frames, height and width of a training clip; the sizes are pixels. */
export type Resolution = readonly [frames: number, height: number, width: number];

/** Data. */
export interface DataConfig {
  /** Folder of the dataset. */
  readonly data_root?: string | undefined;
  /** List of prompts, one per line, below `data_root`. Default `prompts.txt`. */
  readonly caption_column: string;
  /** List of clips, one path per line, below `data_root`. Default `videos.txt`. */
  readonly video_column: string;
  /**
   * List of first-frame images for image to video, below `data_root`. When unset, images.txt where it exists, else the
   * first frame of each clip.
   */
  readonly image_column?: string | undefined;
  /** Text put literally in front of every training prompt. */
  readonly id_token?: string | undefined;
  /**
   * Frames x height x width of a training clip, as 49x480x720 or [49, 480, 720]; sizes in pixels. The shape the model
   * was trained at when unset.
   */
  readonly train_resolution: Resolution;
  /**
   * Which frames of a longer clip are used: equal steps in time at `fps`, or every n-th frame so that the whole clip is
   * covered. Default `time`.
   */
  readonly frame_selection: "time" | "stride";
  /**
   * Frames per second that `frame_selection: time` samples at. The rate the model was trained at when unset: 8, or 16
   * for 1.5.
   */
  readonly fps: number;
  /**
   * How a clip of another aspect ratio is fitted: scaled to cover and cropped, scaled to fit and padded, or distorted.
   * Default `fill`.
   */
  readonly crop: "fill" | "letterbox" | "stretch";
  /** Folder of encoded clips and prompts. `cache` below `data_root` when unset. */
  readonly cache_dir?: string | undefined;
}

const resolutionText = /^[0-9]+x[0-9]+x[0-9]+$/;
const resolutionSchema = z.union([
  z.string().regex(resolutionText),
  z.tuple([z.int().min(1), z.int().min(1), z.int().min(1)]),
]).transform((value): Resolution => {
  const [frames, height, width] = typeof value === "string" ? value.split("x").map(Number) : value;
  return [frames!, height!, width!];
});

export const dataFields = {
  data_root: z.string().min(1).optional(),
  caption_column: z.string().min(1).default("prompts.txt"),
  video_column: z.string().min(1).default("videos.txt"),
  image_column: z.string().min(1).optional(),
  id_token: z.string().optional(),
  train_resolution: resolutionSchema.optional(),
  frame_selection: z.enum(["time", "stride"]).default("time"),
  fps: z.number().positive().max(1000).optional(),
  crop: z.enum(["fill", "letterbox", "stretch"]).default("fill"),
  cache_dir: z.string().min(1).optional(),
};
