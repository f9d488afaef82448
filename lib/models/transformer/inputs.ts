/**
 * The host side of the transformer's inputs: which tensors there are for a shape, and the tables that never change in a
 * run.
 */
import type { DType } from "../../../kernels/core/kernel.ts";
import { UserError } from "../../errors.ts";
import type { Session } from "../../gpu/session.ts";
import { encodeF32, type StorageType } from "../../io/safetensors/half.ts";
import { Tensor } from "../../plan/tensor.ts";
import {
  type Positions,
  rotaryTables,
  scalarSinusoid,
  sincosTable,
  slicePositions,
  tokenCount,
  tokenGrid,
} from "./positions.ts";
import type { TransformerInputs } from "./graph.ts";
import { innerDim, latentSize, type TransformerConfig } from "./config.ts";

/** ofs is the constant 2 in training and in sampling. */
const OFS = 2;

/** Shape of one batch of latents, frames after the padding of CogVideoX1.5. */
export interface BatchShape {
  readonly batch: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly textRows: number;
}

/** Options of {@linkcode declareInputs}. */
export interface InputOptions {
  /** Image condition in a tensor of its own instead of in the latents' channels. */
  readonly separateCondition?: boolean;
  /** Collect gradients of latents and text (tests). */
  readonly needsGrad?: boolean;
}

/** Declares the resident input tensors of a batch. */
export function declareInputs(
  config: TransformerConfig,
  { batch, frames, height, width, textRows }: BatchShape,
  activation: DType,
  { separateCondition = false, needsGrad = false }: InputOptions = {},
): TransformerInputs {
  const resident = (name: string, shape: readonly number[], dtype: DType, grad = false) =>
    new Tensor(name, shape, dtype, { resident: true, needsGrad: grad });
  const d = innerDim(config);
  const videoRows = tokenCount(tokenGrid(config, frames, height, width));
  const conditionChannels = separateCondition ? config.in_channels - config.out_channels : 0;
  const table = () => resident("rotary", [videoRows, config.attention_head_dim / 2], "f32");
  const additive = config.use_learned_positional_embeddings || !config.use_rotary_positional_embeddings;
  return {
    latents: resident(
      "latents",
      [batch, frames, config.in_channels - conditionChannels, height, width],
      "f32",
      needsGrad,
    ),
    condition: conditionChannels === 0
      ? undefined
      : resident("condition", [batch, frames, conditionChannels, height, width], "f32"),
    text: resident("text", [batch, textRows, config.text_embed_dim], activation, needsGrad),
    timestep: resident("timestep", [batch, d], "f32"),
    ofs: config.ofs_embed_dim === null ? undefined : resident("ofs", [batch, config.ofs_embed_dim], "f32"),
    rotary: config.use_rotary_positional_embeddings ? { cos: table(), sin: table() } : undefined,
    positions: additive ? resident("positions", [textRows + videoRows, d], activation) : undefined,
  };
}

/**
 * The additive table [textRows + videoRows, D] in f32: the learned one when the shape is the one it was made for, else
 * sines with zero text rows. diffusers falls back silently when only the frame count differs; callers warn.
 *
 * @throws {UserError} when a learned table meets another height or width, or the text length is not the model's.
 */
export function additivePositions(
  config: TransformerConfig,
  shape: BatchShape,
  learned?: Float32Array<ArrayBuffer>,
): { readonly table: Float32Array<ArrayBuffer>; readonly fallback: boolean } {
  const d = innerDim(config);
  const grid = tokenGrid(config, shape.frames, shape.height, shape.width);
  const size = (shape.textRows + tokenCount(grid)) * d;
  if (shape.textRows !== config.max_text_seq_length) {
    throw new UserError(
      `This model adds positions to the text, so prompts must have ${config.max_text_seq_length} tokens: got ${shape.textRows}`,
      "take text encoder, tokenizer and transformer from one model",
    );
  }
  if (learned !== undefined) {
    if (shape.height !== config.sample_height || shape.width !== config.sample_width) {
      throw new UserError(
        `The learned positions of this model fit ${config.sample_height * 8}x${config.sample_width * 8} pixels only: ` +
          `got ${shape.height * 8}x${shape.width * 8}`,
        `set train_resolution to ${config.sample_frames}x${config.sample_height * 8}x${config.sample_width * 8}`,
      );
    }
    const pixelFrames = (shape.frames - 1) * config.temporal_compression_ratio + 1;
    if (pixelFrames === config.sample_frames && learned.length === size) return { table: learned, fallback: false };
  }
  const table = new Float32Array(size);
  table.set(sincosTable(config, grid), shape.textRows * d);
  return { table, fallback: learned !== undefined };
}

/** The table that a model with learned positions has without learning: sines at the size that it is made for. */
export function nativePositions(config: TransformerConfig): Float32Array<ArrayBuffer> {
  const { sample_frames, sample_height: height, sample_width: width, max_text_seq_length: textRows } = config;
  const { frames, padding } = latentSize(config, [sample_frames, 0, 0]);
  return additivePositions(config, { batch: 1, frames: frames + padding, height, width, textRows }).table;
}

/**
 * Uploads what stays the same for a whole run: rotary tables, additive positions, ofs. Says whether sines replaced a
 * learned table.
 */
export function uploadTables(
  session: Session,
  config: TransformerConfig,
  shape: BatchShape,
  inputs: TransformerInputs,
  { learned, positions }: { learned?: Float32Array<ArrayBuffer> | undefined; positions?: Positions } = {},
): { readonly fallback: boolean } {
  const grid = tokenGrid(config, shape.frames, shape.height, shape.width);
  if (inputs.rotary !== undefined) {
    const { cos, sin } = rotaryTables(positions ?? slicePositions(grid), config.attention_head_dim);
    session.write(inputs.rotary.cos, cos);
    session.write(inputs.rotary.sin, sin);
  }
  if (inputs.ofs !== undefined) {
    const row = scalarSinusoid(OFS, inputs.ofs.width);
    for (let b = 0; b < shape.batch; b++) session.write(inputs.ofs, row, b * row.byteLength);
  }
  if (inputs.positions === undefined) return { fallback: false };
  const { table, fallback } = additivePositions(config, shape, learned);
  session.write(inputs.positions, encodeF32(table, inputs.positions.dtype as StorageType));
  return { fallback };
}

/** Uploads the sinusoids of one timestep per sample. */
export function uploadTimesteps(session: Session, inputs: TransformerInputs, timesteps: readonly number[]): void {
  timesteps.forEach((timestep, b) => {
    const row = scalarSinusoid(timestep, inputs.timestep.width);
    session.write(inputs.timestep, row, b * row.byteLength);
  });
}
