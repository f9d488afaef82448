/**
 * Convolutions of the video autoencoder, forward only as it is frozen: causal in time, per frame with stride 2, per
 * frame behind a nearest upsampling, and 1x1x1. Launches are cut by output frames, and by the window's frames where a
 * single output frame already reads more than one binding holds.
 */
import { convolution } from "../../../kernels/matrix/conv.ts";
import type { ConvShape, ConvSpec } from "../../../kernels/matrix/conv_shape.ts";
import type { DType } from "../../../kernels/core/kernel.ts";
import type { Tensor } from "../../plan/tensor.ts";
import { recordWork } from "../../plan/work.ts";
import { entries, frameBytes, type VideoContext } from "./frames.ts";

/** Weights as the kernel reads them. */
export interface ConvWeights {
  /** [kt, kh, kw, in, out]. */
  readonly weight: Tensor;
  /** f32 [out]. */
  readonly bias: Tensor;
}

/** What a convolution adds and stores. */
export interface ConvOptions {
  /** Added to the result; of its shape and storage. */
  readonly residual?: Tensor;
  /** Storage of the result, by default that of the input. */
  readonly dtype?: DType;
}

/** The part of {@linkcode ConvShape} that differs between the kinds of convolution. */
type Geometry = Pick<ConvShape, "stride" | "padding" | "spaceShift" | "timeShift" | "timeOffset">;

const SAME: Geometry = { stride: 1, padding: 1, spaceShift: 0, timeShift: 0, timeOffset: 0 };

/** Records a causal convolution of x [kt - 1 + frames, h, w, in], whose first kt - 1 frames precede the chunk. */
export function causalConv(context: VideoContext, x: Tensor, weights: ConvWeights, options?: ConvOptions): Tensor {
  const [frames, height, width] = x.shape as [number, number, number];
  const [kt, kh] = weights.weight.shape as [number, number];
  const geometry = { ...SAME, padding: (kh - 1) / 2 };
  return record(context, x, weights, [frames - kt + 1, height, width], geometry, options);
}

/**
 * Records a 3x3 convolution of every frame with stride 2 and a row and column of zeros below and right: half the size.
 */
export function downsampleConv(context: VideoContext, x: Tensor, weights: ConvWeights): Tensor {
  const [frames, height, width] = x.shape as [number, number, number];
  // The padded size h + 1 holds floor((h + 1 - 3) / 2) + 1 windows of three.
  const size = [frames, Math.floor(height / 2), Math.floor(width / 2)] as const;
  return record(context, x, weights, size, { ...SAME, stride: 2, padding: 0 });
}

/**
 * Records nearest upsampling and a 3x3 convolution of every frame: twice the height and width, and with `time` (for
 * more than one frame) twice the frames, of which an odd number's first is not repeated.
 */
export function upsampleConv(
  context: VideoContext,
  x: Tensor,
  weights: ConvWeights,
  { time }: { readonly time: boolean },
): Tensor {
  const [frames, height, width] = x.shape as [number, number, number];
  const doubles = time && frames > 1;
  const odd = frames % 2;
  const size = [doubles ? 2 * frames - odd : frames, 2 * height, 2 * width] as const;
  const geometry = { ...SAME, spaceShift: 1, timeShift: doubles ? 1 : 0, timeOffset: doubles ? odd : 0 };
  return record(context, x, weights, size, geometry);
}

function record(
  context: VideoContext,
  x: Tensor,
  { weight, bias }: ConvWeights,
  [frames, height, width]: readonly [number, number, number],
  geometry: Geometry,
  { residual, dtype = x.dtype }: ConvOptions = {},
): Tensor {
  const [kt, kh, kw, channels, outputs] = weight.shape as [number, number, number, number, number];
  if (x.width !== channels) {
    throw new RangeError(`Cannot convolve "${x.name}" [${x.shape}] with "${weight.name}" [${weight.shape}]`);
  }
  const y = context.plan.transient("conv", [frames, height, width, outputs], dtype);
  const shape: ConvShape = {
    channels,
    outputs,
    frames,
    height,
    width,
    inputHeight: x.shape[1]!,
    inputWidth: x.shape[2]!,
    window: [kt, kh, kw],
    weightFrame: 0,
    ...geometry,
  };
  const parts = { context, x, weight, bias, y, residual, shape };
  const length = framesPerLaunch(parts);
  if (length > 0) splitFrames(parts, length);
  else splitWindow(parts);
  return y;
}

interface Parts {
  readonly context: VideoContext;
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly y: Tensor;
  readonly residual: Tensor | undefined;
  readonly shape: ConvShape;
}

/** Output frames one launch can compute with x, y and residual bound; 0 when even one reads too much. */
function framesPerLaunch({ context: { bindingBytes }, x, y, shape }: Parts): number {
  const { frames, window: [kt], timeShift } = shape;
  const fits = (count: number) => {
    const reads = Math.min(x.shape[0]!, ((count + (1 << timeShift) - 2) >> timeShift) + kt);
    return count * frameBytes(y) <= bindingBytes && reads * frameBytes(x) <= bindingBytes;
  };
  let count = frames;
  while (count > 0 && !fits(count)) count--;
  return count;
}

/** Launches over ranges of output frames, each reading the kt - 1 frames more that its window covers. */
function splitFrames(parts: Parts, length: number): void {
  const { x, residual, shape } = parts;
  const { frames, window: [kt], timeShift, timeOffset } = shape;
  const begin = (frame: number) => (frame + timeOffset) >> timeShift;
  const flags = { bias: true, residual: residual !== undefined, accumulate: false };
  for (let from = 0; from < frames; from += length) {
    const count = Math.min(length, frames - from);
    const read = entries(x, begin(from), begin(from + count - 1) - begin(from) + kt);
    const offset = (from + timeOffset) % (1 << timeShift);
    launch(parts, flags, { ...shape, frames: count, timeOffset: offset }, read, from);
  }
}

/** One output frame and one frame of the window at a time, summed in the output's storage. */
function splitWindow(parts: Parts): void {
  const { x, residual, shape } = parts;
  const [kt, kh, kw] = shape.window;
  for (let from = 0; from < shape.frames; from++) {
    for (let dt = 0; dt < kt; dt++) {
      const flags = { bias: dt === 0, residual: dt === 0 && residual !== undefined, accumulate: dt > 0 };
      const sliced: ConvShape = { ...shape, frames: 1, window: [1, kh, kw], weightFrame: dt };
      launch(parts, flags, sliced, entries(x, from + dt, 1), from);
    }
  }
}

function launch(
  { context: { plan }, weight, bias, y, residual }: Parts,
  flags: Pick<ConvSpec, "bias" | "residual" | "accumulate">,
  shape: ConvShape,
  read: Tensor,
  from: number,
): void {
  const spec = { x: read.dtype, weight: weight.dtype, y: y.dtype, ...flags };
  recordWork(plan, convolution(plan.target, spec, shape), {
    x: read,
    weight,
    ...(flags.bias ? { bias } : {}),
    ...(flags.residual ? { residual: entries(residual!, from, shape.frames) } : {}),
    y: entries(y, from, shape.frames),
  });
}
