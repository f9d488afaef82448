/** How a config says to read its dataset: the same for training, checking and importing. */
import type { TrainConfig } from "../../config/config.ts";
import { clipShapes } from "../../config/derive.ts";
import type { DatasetOptions } from "../../data/dataset/format.ts";
import type { ShapeOptions } from "../../data/samples/buckets.ts";

/** The options of `readDataset` for the dataset of a config. */
export function datasetOptions(config: TrainConfig): DatasetOptions {
  return {
    format: config.dataset_format,
    captionColumn: config.caption_column,
    videoColumn: config.video_column,
    imageColumn: config.image_column,
    images: config.model_type === "i2v",
    idToken: config.id_token,
    prompt: config.prompt,
    frames: Math.min(...clipShapes(config).map(([frames]) => frames)),
    allowOutside: config.allow_outside,
  };
}

/** The shape or shapes that clips are cut to. */
export function shapeOptions(config: TrainConfig): ShapeOptions {
  const shapes = clipShapes(config).map(([frames, height, width]) => ({ frames, size: { width, height } }));
  return { ...shapes[0]!, buckets: shapes, fps: config.fps, frameRule: config.frame_selection };
}
