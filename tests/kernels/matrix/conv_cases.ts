/** Convolutions that the tests of their kernels share, with a float64 reference. */
import type { ConvShape, ConvSpec } from "../../../kernels/matrix/conv_shape.ts";
import type { Work } from "../../../kernels/core/kernel.ts";
import { numbers, relativeL2, runWork, stored } from "../run.ts";
import { causalShape } from "../shapes.ts";

/** f32 throughout, with a bias. */
export const PLAIN_SPEC: ConvSpec = {
  x: "f32",
  weight: "f32",
  y: "f32",
  bias: true,
  residual: false,
  accumulate: false,
};

/** A named convolution. */
export interface ConvCase {
  readonly name: string;
  readonly spec: ConvSpec;
  readonly shape: ConvShape;
}

/** A causal convolution of several column groups. */
export const causal = causalShape({ channels: 8, outputs: 36, frames: 3, height: 5, width: 7 });

/** The same, frame by frame. */
export const perFrame: ConvShape = { ...causal, window: [1, 3, 3] };

/** Every kind of convolution of the autoencoder, with edges on every side. */
export const convCases: readonly ConvCase[] = [
  { name: "causal 3x3x3", spec: PLAIN_SPEC, shape: causal },
  { name: "few outputs", spec: PLAIN_SPEC, shape: { ...causal, outputs: 4, channels: 12 } },
  { name: "two column tiles", spec: { ...PLAIN_SPEC, bias: false }, shape: { ...perFrame, outputs: 132, channels: 4 } },
  { name: "1x1x1", spec: PLAIN_SPEC, shape: { ...causal, window: [1, 1, 1], padding: 0, channels: 20 } },
  { name: "residual", spec: { ...PLAIN_SPEC, residual: true }, shape: causal },
  {
    name: "accumulation without bias, one frame of the window",
    spec: { ...PLAIN_SPEC, bias: false, accumulate: true },
    shape: { ...perFrame, weightFrame: 2 },
  },
  {
    name: "stride 2, zeros below and right only",
    spec: PLAIN_SPEC,
    shape: { ...perFrame, height: 3, width: 4, inputHeight: 6, inputWidth: 8, stride: 2, padding: 0 },
  },
  {
    name: "nearest upsampling in space and time, odd frames",
    spec: PLAIN_SPEC,
    shape: {
      ...perFrame,
      frames: 5,
      height: 6,
      width: 10,
      inputHeight: 3,
      inputWidth: 5,
      spaceShift: 1,
      timeShift: 1,
      timeOffset: 1,
    },
  },
  {
    name: "nearest upsampling in space and time, even frames",
    spec: PLAIN_SPEC,
    shape: {
      ...perFrame,
      frames: 4,
      height: 6,
      width: 2,
      inputHeight: 3,
      inputWidth: 1,
      spaceShift: 1,
      timeShift: 1,
      timeOffset: 0,
    },
  },
  ...(["f16", "bf16"] as const).map((dtype) => ({
    name: `${dtype} storage`,
    spec: { ...PLAIN_SPEC, x: dtype, weight: dtype, y: dtype, residual: true },
    shape: causal,
  })),
  { name: "bf16 with f32 output", spec: { ...PLAIN_SPEC, x: "bf16", weight: "bf16" }, shape: causal },
];

function inputFrames({ frames, timeShift, timeOffset, window: [kt] }: ConvShape): number {
  return ((frames - 1 + timeOffset) >> timeShift) + kt;
}

/** The convolution by its definition, in float64. */
function reference(
  spec: ConvSpec,
  shape: ConvShape,
  [x, weight, bias, residual, y]: [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array],
): Float64Array {
  const { channels, outputs, frames, height, width, inputHeight, inputWidth, window: [kt, kh, kw] } = shape;
  const result = new Float64Array(frames * height * width * outputs);
  const source = (t: number, oy: number, ox: number, dt: number, dy: number, dx: number): number => {
    const iy = oy * shape.stride + dy - shape.padding;
    const ix = ox * shape.stride + dx - shape.padding;
    if (iy < 0 || ix < 0 || iy >= inputHeight << shape.spaceShift || ix >= inputWidth << shape.spaceShift) return -1;
    const frame = ((t + shape.timeOffset) >> shape.timeShift) + dt;
    return ((frame * inputHeight + (iy >> shape.spaceShift)) * inputWidth + (ix >> shape.spaceShift)) * channels;
  };
  for (let position = 0; position < frames * height * width; position++) {
    const t = Math.floor(position / (height * width));
    const oy = Math.floor(position / width) % height;
    const ox = position % width;
    const at = position * outputs;
    for (let tap = 0; tap < kt * kh * kw; tap++) {
      const from = source(t, oy, ox, Math.floor(tap / (kh * kw)), Math.floor(tap / kw) % kh, tap % kw);
      if (from < 0) continue;
      for (let c = 0; c < channels; c++) {
        for (let n = 0; n < outputs; n++) {
          result[at + n]! += x[from + c]! * weight[((shape.weightFrame * kh * kw + tap) * channels + c) * outputs + n]!;
        }
      }
    }
    for (let n = 0; n < outputs; n++) {
      if (spec.bias) result[at + n]! += bias[n]!;
      if (spec.residual) result[at + n]! += residual[at + n]!;
      if (spec.accumulate) result[at + n]! += y[at + n]!;
    }
  }
  return result;
}

/** Relative L2 error of what `work` makes of a case. */
export async function convError({ spec, shape }: ConvCase, work: Work): Promise<number> {
  const { channels, outputs, window: [kt, kh, kw] } = shape;
  const size = shape.frames * shape.height * shape.width * outputs;
  const x = stored(numbers(inputFrames(shape) * shape.inputHeight * shape.inputWidth * channels, 1), spec.x);
  const weight = stored(numbers((shape.weightFrame + kt) * kh * kw * channels * outputs, 2), spec.weight);
  const bias = numbers(outputs, 3);
  const residual = stored(numbers(size, 4), spec.y);
  const y = stored(numbers(size, 5), spec.y);
  const results = await runWork(work, { x, weight, bias, residual, y });
  return relativeL2(results.y!, reference(spec, shape, [x, weight, bias, residual, y]));
}
