/** Ops of the video autoencoder, forward only; tensors are [frames, height, width, channels]. */
import type { DType } from "../../kernels/core/kernel.ts";
import { causalConv, downsampleConv, upsampleConv } from "../../lib/ops/video/conv3d.ts";
import { BINDING_BYTES, carryFrames, type VideoContext } from "../../lib/ops/video/frames.ts";
import { groupNorm } from "../../lib/ops/video/group_norm.ts";
import { halveFrames } from "../../lib/ops/video/resample.ts";
import type { Plan } from "../../lib/plan/plan.ts";
import { type OpCase, opCase, type Operand } from "./op_case.ts";
import { siluReference } from "./reference.ts";

type Video = readonly [frames: number, height: number, width: number, channels: number];

const video = (shape: readonly number[], dtype: DType = "f32"): Operand => ({ shape, role: "constant", dtype });
const bias = (channels: number): Operand => ({ shape: [channels], role: "constant" });
const context = (plan: Plan, bindingBytes = BINDING_BYTES): VideoContext => ({ plan, bindingBytes });

/** Convolves with a kernel [kt, kh, kw, in, out]; `at` gives the start of the channels a tap reads, or -1 for zeros. */
function convolved(
  { x, weight, bias }: { readonly x: Float64Array; readonly weight: Float64Array; readonly bias: Float64Array },
  [frames, height, width, outputs]: Video,
  [kt, kh, kw, channels]: Video,
  at: (frame: number, row: number, column: number, tap: readonly [number, number, number]) => number,
): Float64Array {
  const y = new Float64Array(frames * height * width * outputs);
  for (let position = 0; position < frames * height * width; position++) {
    const column = position % width;
    const row = Math.floor(position / width) % height;
    const frame = Math.floor(position / width / height);
    for (let n = 0; n < outputs; n++) y[position * outputs + n] = bias[n]!;
    for (let tap = 0; tap < kt * kh * kw; tap++) {
      const from = at(frame, row, column, [Math.floor(tap / kh / kw), Math.floor(tap / kw) % kh, tap % kw]);
      if (from < 0) continue;
      for (let c = 0; c < channels; c++) {
        for (let n = 0; n < outputs; n++) {
          y[position * outputs + n]! += x[from + c]! * weight[(tap * channels + c) * outputs + n]!;
        }
      }
    }
  }
  return y;
}

/** Two frames in front precede the chunk; `bindingBytes` small enough cuts the launches. */
function causalCase([frames, height, width, channels]: Video, outputs: number, dtype: DType, binding?: number): OpCase {
  const inside = (r: number, c: number) => r >= 0 && c >= 0 && r < height && c < width;
  return opCase({
    name: `causal convolution ${dtype} [${frames}, ${height}, ${width}, ${channels}] -> ${outputs}${
      binding ? ", cut" : ""
    }`,
    operands: {
      x: video([frames + 2, height, width, channels], dtype),
      weight: video([3, 3, 3, channels, outputs], dtype),
      bias: bias(outputs),
    },
    record: (plan, { x, weight, bias }) => causalConv(context(plan, binding), x, { weight, bias }),
    reference: (values) =>
      convolved(values, [frames, height, width, outputs], [3, 3, 3, channels], (f, r, c, [dt, dr, dc]) => {
        const [row, column] = [r + dr - 1, c + dc - 1];
        return inside(row, column) ? (((f + dt) * height + row) * width + column) * channels : -1;
      }),
    flops: 2 * frames * height * width * 27 * channels * outputs,
  });
}

function downCase([frames, height, width, channels]: Video, outputs: number): OpCase {
  const [half, halfWidth] = [Math.floor(height / 2), Math.floor(width / 2)];
  return opCase({
    name: `downsampling convolution [${frames}, ${height}, ${width}, ${channels}]`,
    operands: {
      x: video([frames, height, width, channels]),
      weight: video([1, 3, 3, channels, outputs]),
      bias: bias(outputs),
    },
    record: (plan, { x, weight, bias }) => downsampleConv(context(plan), x, { weight, bias }),
    reference: (values) =>
      convolved(values, [frames, half, halfWidth, outputs], [1, 3, 3, channels], (f, r, c, [, dr, dc]) => {
        const [row, column] = [2 * r + dr, 2 * c + dc];
        return row < height && column < width ? ((f * height + row) * width + column) * channels : -1;
      }),
  });
}

/** Nearest neighbours twice as large; in time, the first of an odd number of frames is not repeated. */
function upCase([frames, height, width, channels]: Video, outputs: number, time: boolean): OpCase {
  const doubles = time && frames > 1;
  const odd = frames % 2;
  const count = doubles ? 2 * frames - odd : frames;
  return opCase({
    name: `upsampling convolution [${frames}, ${height}, ${width}, ${channels}]${time ? " in time" : ""}`,
    operands: {
      x: video([frames, height, width, channels]),
      weight: video([1, 3, 3, channels, outputs]),
      bias: bias(outputs),
    },
    record: (plan, { x, weight, bias }) => upsampleConv(context(plan), x, { weight, bias }, { time }),
    reference: (values) =>
      convolved(values, [count, 2 * height, 2 * width, outputs], [1, 3, 3, channels], (f, r, c, [, dr, dc]) => {
        const [row, column] = [r + dr - 1, c + dc - 1];
        if (row < 0 || column < 0 || row >= 2 * height || column >= 2 * width) return -1;
        const frame = doubles ? (f + odd) >> 1 : f;
        return ((frame * height + (row >> 1)) * width + (column >> 1)) * channels;
      }),
  });
}

function normalised(x: Float64Array, channels: number, groups: number, eps: number): Float64Array {
  const size = channels / groups;
  const y = new Float64Array(x.length);
  for (let group = 0; group < groups; group++) {
    const inGroup = (i: number) => Math.floor(i % channels / size) === group;
    const values = x.filter((_, i) => inGroup(i));
    const mean = values.reduce((a, b) => a + b) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    x.forEach((v, i) => {
      if (inGroup(i)) y[i] = (v - mean) / Math.sqrt(variance + eps);
    });
  }
  return y;
}

function groupNormCase(shape: Video, groups: number, silu: boolean, dtype: DType = "f32", binding?: number): OpCase {
  const channels = shape[3];
  return opCase({
    name: `group norm ${dtype} [${shape}] of ${groups}${silu ? " with silu" : ""}${binding ? ", cut" : ""}`,
    operands: {
      x: { ...video(shape, dtype), values: (v) => 3 * v + 1 },
      weight: { ...bias(channels), values: (v) => 1 + v },
      bias: bias(channels),
    },
    record: (plan, { x, weight, bias }) =>
      groupNorm(context(plan, binding), x, { weight, bias }, { groups, eps: 1e-6, silu, lead: 0 }),
    reference: ({ x, weight, bias }) =>
      normalised(x, channels, groups, 1e-6).map((v, i) => {
        const y = v * weight[i % channels]! + bias[i % channels]!;
        return silu ? siluReference(y) : y;
      }),
  });
}

function halveCase([frames, height, width, channels]: Video, dtype: DType = "f32"): OpCase {
  const size = height * width * channels;
  const odd = frames % 2;
  return opCase({
    name: `halving ${frames} frames ${dtype}`,
    operands: { x: video([frames, height, width, channels], dtype) },
    record: (plan, { x }) => halveFrames(context(plan), x),
    reference: ({ x }) =>
      Float64Array.from({ length: Math.ceil(frames / 2) * size }, (_, i) => {
        const frame = Math.floor(i / size);
        if (odd === 1 && frame === 0) return x[i]!;
        const at = (2 * frame - odd) * size + i % size;
        return (x[at]! + x[at + size]!) / 2;
      }),
  });
}

/** Free frames in front are filled from the cache, or with copies of the first frame where there is none. */
function carryCase(first: boolean): OpCase {
  const [lead, size] = [2, 4 * 5 * 4];
  return opCase({
    name: `carried frames of ${first ? "the first" : "a later"} chunk`,
    operands: { x: video([5, 4, 5, 4]), cache: video([lead, 4, 5, 4]) },
    record: (plan, { x, cache }) => {
      carryFrames(context(plan), x, { frames: cache, first });
      return x;
    },
    reference: ({ x, cache }) =>
      x.map((value, i) => i >= lead * size ? value : first ? x[lead * size + i % size]! : cache[i]!),
  });
}

export const videoCases: readonly OpCase[] = [
  causalCase([3, 4, 5, 16], 20, "f32"),
  causalCase([2, 3, 7, 4], 4, "bf16"),
  // One frame of the window and then one output frame at a time: a frame is 1280 bytes.
  causalCase([3, 4, 5, 16], 16, "f32", 1280),
  causalCase([3, 4, 5, 16], 16, "f32", 4 * 1280),
  downCase([2, 7, 6, 8], 12),
  upCase([3, 3, 5, 8], 4, true),
  upCase([2, 3, 5, 8], 4, true),
  upCase([3, 3, 5, 8], 4, false),
  groupNormCase([3, 5, 7, 12], 3, false),
  groupNormCase([2, 4, 5, 16], 4, true),
  groupNormCase([2, 4, 5, 16], 4, true, "bf16"),
  halveCase([5, 4, 4, 4]),
  halveCase([4, 3, 5, 4], "bf16"),
  halveCase([1, 3, 5, 4]),
  carryCase(true),
  carryCase(false),
];
