/**
 * What every convolution is given. Layouts: input [frames, h, w, channels], weights [kt, kh, kw, channels, outputs],
 * output [frames, h, w, outputs]; channels and outputs are multiples of four. A causal convolution finds its kt - 1
 * earlier frames in front of the input.
 */
import type { BufferSpec, DType } from "../core/kernel.ts";

/** What the text of a convolution depends on. */
export interface ConvSpec {
  /** Storage of the input. */
  readonly x: DType;
  readonly weight: DType;
  /** Storage of output and residual. */
  readonly y: DType;
  /** Adds an f32 vector of one value per output channel. */
  readonly bias: boolean;
  /** Adds a tensor of the output's shape. */
  readonly residual: boolean;
  /** Adds to what the output holds, for windows whose taps are split over launches. */
  readonly accumulate: boolean;
}

/** Shapes of one launch. */
export interface ConvShape {
  /** Channels of input and output, multiples of four. */
  readonly channels: number;
  readonly outputs: number;
  /** Frames, height and width of the output. */
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  /** Height and width of the input as it is stored. */
  readonly inputHeight: number;
  readonly inputWidth: number;
  /** Window: frames, rows, columns. */
  readonly window: readonly [number, number, number];
  /** Frame of the weights the window begins with, when its frames are split over launches. */
  readonly weightFrame: number;
  /** Step between windows in space. */
  readonly stride: number;
  /** Rows of zeros above (and columns left of) the input; below and right as many as the output size reaches. */
  readonly padding: number;
  /** log2 of the nearest upsampling in space that is applied before the window. */
  readonly spaceShift: number;
  /** Output frame t starts at input frame (t + timeOffset) >> timeShift. */
  readonly timeShift: number;
  readonly timeOffset: number;
}

/**
 * Refuses sizes that no kernel serves.
 *
 * @throws {RangeError} when channels are not multiples of four.
 */
export function checkConv({ channels, outputs }: ConvShape): void {
  if (channels % 4 !== 0 || outputs % 4 !== 0) {
    throw new RangeError(
      `Cannot launch a convolution of ${channels} to ${outputs} channels: both must be multiples of 4`,
    );
  }
}

/** Positions of the output. */
export function positionsOf({ frames, height, width }: ConvShape): number {
  return frames * height * width;
}

/** Arithmetic of a convolution. */
export function convFlops(shape: ConvShape): number {
  const { channels, outputs, window: [kt, kh, kw] } = shape;
  return 2 * positionsOf(shape) * outputs * channels * kt * kh * kw;
}

/** The bindings of a convolution. */
export function convBuffers(spec: ConvSpec): BufferSpec[] {
  return [
    { name: "x", dtype: spec.x },
    { name: "weight", dtype: spec.weight },
    ...(spec.bias ? [{ name: "bias", dtype: "f32" } as const] : []),
    ...(spec.residual ? [{ name: "residual", dtype: spec.y }] : []),
    { name: "y", dtype: spec.y },
  ];
}

/** Params of a convolution whose tiles of the output are `across` to a row of tiles. */
export const CONV_PARAMS = [
  "positions",
  "height",
  "width",
  "input_height",
  "input_width",
  "channels4",
  "outputs4",
  "across",
  "kt",
  "kh",
  "kw",
  "stride",
  "padding",
  "space_shift",
  "time_shift",
  "time_offset",
  "depth",
];

/** Values of {@linkcode CONV_PARAMS}. */
export function convParams(shape: ConvShape, across: number): number[] {
  const { channels, outputs, height, width, window: [kt, kh, kw] } = shape;
  return [
    positionsOf(shape),
    height,
    width,
    shape.inputHeight,
    shape.inputWidth,
    channels / 4,
    outputs / 4,
    across,
    kt,
    kh,
    kw,
    shape.stride,
    shape.padding,
    shape.spaceShift,
    shape.timeShift,
    shape.timeOffset,
    shape.weightFrame * kh * kw * channels * outputs / 4,
  ];
}
