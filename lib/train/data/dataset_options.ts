/** How a config says to read its dataset: the same for training, checking and importing. */
import type { TrainConfig } from "../../config/config.ts";
import type { DatasetOptions } from "../../data/dataset/format.ts";

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
    frames: config.train_resolution[0],
    allowOutside: config.allow_outside,
  };
}
