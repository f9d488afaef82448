/** The sizes at which released models train, and small ones for software drivers. */
import { innerDim, latentSize, type ModelVariant, RELEASED } from "../../lib/models/transformer/config.ts";
import { tokenCount, tokenGrid } from "../../lib/models/transformer/positions.ts";
import { isSmall } from "./stage.ts";

/** Sizes of the tensors of a transformer block. */
export interface BlockSizes {
  /** Models that share them. */
  readonly models: readonly ModelVariant[];
  /** Tokens of text and video. */
  readonly rows: number;
  readonly width: number;
  readonly heads: number;
}

/** Frames, height and width of the presets, and of tiny models. */
const CLIPS = { "1.0": [49, 480, 720], "1.5": [81, 768, 1360], tiny: [9, 64, 96] } as const;

/** Clip that a model trains on. */
export function clipOf(model: ModelVariant): readonly [frames: number, height: number, width: number] {
  return CLIPS[model.startsWith("tiny") ? "tiny" : model.startsWith("1.5") ? "1.5" : "1.0"];
}

function sizesOf(model: ModelVariant): BlockSizes {
  const config = RELEASED[model];
  const { frames, padding, height, width } = latentSize(config, clipOf(model));
  const rows = config.max_text_seq_length + tokenCount(tokenGrid(config, frames + padding, height, width));
  return { models: [model], rows, width: innerDim(config), heads: config.num_attention_heads };
}

/** Every size that a released model trains at, each once: image-to-video models share those of their text-to-video twins. */
export const blockSizes: readonly BlockSizes[] = isSmall ? [sizesOf("tiny-2b")] : [
  ...Map.groupBy((["5b", "2b", "1.5-5b", "5b-i2v", "1.5-5b-i2v"] as const).map(sizesOf), ({ rows, width }) => {
    return `${rows} ${width}`;
  }).values(),
].map((group) => ({ ...group[0]!, models: group.flatMap(({ models }) => models) }));
