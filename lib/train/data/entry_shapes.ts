/** Shapes of what a run reads from its cache: they follow from config and model, whatever an entry says of itself. */
import type { TrainConfig } from "../../config/config.ts";
import { clipShapes } from "../../config/derive.ts";
import type { CacheKind } from "../../data/cache/key.ts";
import type { ModelConfigs } from "../../models/folder/model_folder.ts";
import { latentSize } from "../../models/transformer/config.ts";

/** Shape of an entry of each kind. */
export type EntryShapes = Readonly<Record<CacheKind, readonly number[]>>;

/** The shapes of each bucket of a config, or of its one shape. */
export function entryShapes(config: TrainConfig, { transformer, vae }: ModelConfigs): EntryShapes[] {
  return clipShapes(config).map((resolution) => {
    const { frames, height, width } = latentSize(transformer, resolution);
    return {
      latent: [2 * vae.latent_channels, frames, height, width],
      image: [2 * vae.latent_channels, 1, height, width],
      prompt: [transformer.max_text_seq_length, transformer.text_embed_dim],
    };
  });
}
