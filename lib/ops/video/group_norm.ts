/**
 * Group norm of a video chunk (statistics over its frames and pixels and the channels of a group), with an optional
 * SiLU, and the decoder's spatial norm GroupNorm(f) * y + s, where y and s come from the latent and lie on its small
 * grid.
 */
import {
  groupNormApply,
  groupNormMerge,
  groupNormParts,
  groupNormTable,
  MERGE_FACTOR,
  PART_POSITIONS,
} from "../../../kernels/norm/group.ts";
import type { Tensor } from "../../plan/tensor.ts";
import { entries, frameBytes, range, slices, type VideoContext } from "./frames.ts";

/** Affine weights, f32 [channels] each. */
export interface GroupNormWeights {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** What a norm computes besides normalising. */
export interface GroupNormOptions {
  /** Channels in front of those that only fill up to a multiple of four. Default all. */
  readonly channels?: number;
  readonly groups: number;
  readonly eps: number;
  readonly silu: boolean;
  /** Free frames in front of the result, where a causal convolution wants earlier ones. */
  readonly lead: number;
  /** Factor and summand of a spatial norm, [latent frames, latent h, latent w, 2 * channels]. */
  readonly modulation?: Tensor | undefined;
}

/** Records the norm of x [frames, h, w, channels]; returns [lead + frames, h, w, channels]. */
export function groupNorm(
  context: VideoContext,
  x: Tensor,
  { weight, bias }: GroupNormWeights,
  options: GroupNormOptions,
): Tensor {
  const { plan } = context;
  const channels = x.width;
  const statistics = channelStatistics(context, x);
  const table = plan.transient("group statistics", [2, channels], "f32");
  const { channels: trueChannels = channels, groups, eps } = options;
  const shape = { positions: x.rows, channels, trueChannels, groups, eps };
  plan.launch(groupNormTable(shape), [statistics, weight, table], [table]);
  return apply(context, x, table, bias, options);
}

/** Mean and M2 of every channel, f32 [1, 2, channels]: parts of the positions, merged level by level. */
function channelStatistics(context: VideoContext, x: Tensor): Tensor {
  const { plan } = context;
  const positions = x.rows;
  const channels = x.width;
  const rows = x.reshape([positions, channels]);
  let count = Math.ceil(positions / PART_POSITIONS);
  let covered = PART_POSITIONS;
  let parts = plan.transient("channel statistics", [count, 2, channels], "f32");
  slices(context, positions, frameBytes(rows), (from, length) => {
    const shape = { positions: length, channels, firstPart: from / PART_POSITIONS };
    plan.launch(groupNormParts({ dtype: x.dtype }, shape), [entries(rows, from, length), parts], [parts]);
  }, PART_POSITIONS);
  while (count > 1) {
    const launch = groupNormMerge({ parts: count, partPositions: covered, positions, channels });
    count = Math.ceil(count / MERGE_FACTOR);
    covered *= MERGE_FACTOR;
    const merged = plan.transient("channel statistics", [count, 2, channels], "f32");
    plan.launch(launch, [parts, merged], [merged]);
    parts = merged;
  }
  return parts;
}

function apply(
  context: VideoContext,
  x: Tensor,
  table: Tensor,
  bias: Tensor,
  { silu, lead, modulation }: GroupNormOptions,
): Tensor {
  const { plan } = context;
  const [frames, height, width, channels] = x.shape as [number, number, number, number];
  const y = plan.transient("group norm", [lead + frames, height, width, channels], x.dtype);
  const area = height * width;
  const [latentFrames, latentHeight, latentWidth] = (modulation?.shape ?? []) as [number, number, number];
  const grid = { frames, height, width, latentFrames, latentHeight, latentWidth };
  // One frame at a time as soon as the larger of the two tensors needs windows.
  slices(context, frames, y.bytes <= context.bindingBytes ? 0 : frameBytes(x), (from, count) => {
    const source = entries(x, from, count);
    const target = range(context, y, lead + from, count);
    const launch = groupNormApply({ dtype: x.dtype, silu, spatial: modulation !== undefined }, {
      positions: count * area,
      channels,
      firstPosition: from * area,
      outputPosition: target.first * area,
      ...(modulation === undefined ? {} : { grid }),
    });
    const inputs = [source, table, bias, ...(modulation === undefined ? [] : [modulation])];
    plan.launch(launch, [...inputs, target.tensor], [target.tensor]);
  });
  return y;
}
