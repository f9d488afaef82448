/**
 * The encoder and the decoder of the video autoencoder for one chunk of frames, forward only.
 *
 * Video on the GPU is [frames, height, width, channels]. Every causal convolution gets its two earlier frames from a
 * cache that the previous chunk of the same tile filled.
 */
import type { DType } from "../../../kernels/core/kernel.ts";
import { causalConv, type ConvOptions, downsampleConv, upsampleConv } from "../../ops/video/conv3d.ts";
import { carryFrames, type VideoContext } from "../../ops/video/frames.ts";
import { groupNorm } from "../../ops/video/group_norm.ts";
import { halveFrames } from "../../ops/video/resample.ts";
import { Tensor } from "../../plan/tensor.ts";
import { changesTime } from "./config.ts";
import type { VaeWeights } from "./weights.ts";

/** Earlier frames a causal 3x3x3 convolution reads. */
export const LEAD = 2;

/** Where a chunk stands in its tile: alone, at the beginning, or behind another. */
export type ChunkKind = "only" | "first" | "next";

/** The caches of one tile size: resident, so that plans of consecutive chunks share them. */
export class FrameCaches {
  readonly #tensors = new Map<string, Tensor>();

  /** The cache of convolution `name`, [2, h, w, channels]. */
  get(name: string, shape: readonly number[], dtype: DType): Tensor {
    let tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      tensor = new Tensor(`${name} frames`, shape, dtype, { resident: true });
      this.#tensors.set(name, tensor);
    }
    return tensor;
  }

  /** Every cache declared so far. */
  get all(): Iterable<Tensor> {
    return this.#tensors.values();
  }
}

/** What a chunk is recorded with. */
export interface ChunkContext extends VideoContext {
  readonly weights: VaeWeights;
  readonly caches: FrameCaches;
  readonly kind: ChunkKind;
  /** The latent chunk without earlier frames; spatial norms read it. Decoder only. */
  readonly latent?: Tensor;
}

/** Norm and SiLU, then the causal convolution, whose earlier frames come from its cache. */
function normConv(context: ChunkContext, x: Tensor, norm: string, conv: string, options: ConvOptions = {}): Tensor {
  const { weights, caches, kind, plan, latent } = context;
  const { config } = weights;
  const modulation = latent === undefined ? undefined : causalConv(context, latent, weights.conv(`${norm}.modulation`));
  const h = groupNorm(context, x, weights.norm(norm), {
    channels: weights.channels(norm),
    groups: config.norm_num_groups,
    eps: config.norm_eps,
    silu: true,
    lead: LEAD,
    modulation,
  });
  const shape = [LEAD, ...h.shape.slice(1)];
  const frames = kind === "only" ? plan.transient("earlier frames", shape, h.dtype) : caches.get(conv, shape, h.dtype);
  carryFrames(context, h, { frames, first: kind !== "next" });
  return causalConv(context, h, weights.conv(conv), options);
}

function resnet(context: ChunkContext, x: Tensor, name: string): Tensor {
  return context.plan.scope(name, () => {
    const { weights } = context;
    const h = normConv(context, x, `${name}.norm1`, `${name}.conv1.conv`);
    const shortcut = `${name}.conv_shortcut`;
    const residual = weights.has(shortcut) ? causalConv(context, x, weights.conv(shortcut)) : x;
    return normConv(context, h, `${name}.norm2`, `${name}.conv2.conv`, { residual });
  });
}

function resnets(context: ChunkContext, x: Tensor, name: string, count: number): Tensor {
  let h = x;
  for (let j = 0; j < count; j++) h = resnet(context, h, `${name}.resnets.${j}`);
  return h;
}

/**
 * Records the encoder for x [2 + frames, h, w, 4], earlier frames included; returns f32 moments [frames', h / 8, w / 8,
 * 2 * latent].
 */
export function encodeChunk(context: ChunkContext, x: Tensor): Tensor {
  const { weights } = context;
  const { config } = weights;
  const { block_out_channels: widths, layers_per_block } = config;
  let h = causalConv(context, x, weights.conv("encoder.conv_in.conv"));
  for (let i = 0; i < widths.length; i++) {
    const block = `encoder.down_blocks.${i}`;
    h = resnets(context, h, block, layers_per_block);
    if (i === widths.length - 1) continue;
    if (changesTime(config, i)) h = halveFrames(context, h);
    h = downsampleConv(context, h, weights.conv(`${block}.downsamplers.0.conv`));
  }
  h = resnets(context, h, "encoder.mid_block", 2);
  return normConv(context, h, "encoder.norm_out", "encoder.conv_out.conv", { dtype: "f32" });
}

/**
 * Records the decoder for z [2 + frames, h, w, latent], earlier frames included; returns f32 pixels [frames', 8 h, 8 w,
 * 4].
 */
export function decodeChunk(context: ChunkContext, z: Tensor): Tensor {
  const { weights } = context;
  const { config } = weights;
  const { block_out_channels: widths, layers_per_block } = config;
  let h = causalConv(context, z, weights.conv("decoder.conv_in.conv"));
  h = resnets(context, h, "decoder.mid_block", 2);
  for (let i = 0; i < widths.length; i++) {
    const block = `decoder.up_blocks.${i}`;
    h = resnets(context, h, block, layers_per_block + 1);
    if (i === widths.length - 1) continue;
    h = upsampleConv(context, h, weights.conv(`${block}.upsamplers.0.conv`), { time: changesTime(config, i) });
  }
  return normConv(context, h, "decoder.norm_out", "decoder.conv_out.conv", { dtype: "f32" });
}
