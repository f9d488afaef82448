/** Shapes that tests and benchmarks share. */
import type { ConvShape } from "../../kernels/matrix/conv_shape.ts";
import type { LayerNormShape } from "../../kernels/norm/layer.ts";
import type { SegmentRows } from "../../kernels/norm/rows.ts";

/** A layer norm with the modulation of a transformer block: six chunks a sample, of which it reads four. */
export function modulatedShape(segments: SegmentRows, width: number): LayerNormShape {
  return {
    ...segments,
    width,
    eps: 1e-5,
    modulationStride: 6 * width,
    shiftVideo: 0,
    scaleVideo: width,
    shiftText: 3 * width,
    scaleText: 4 * width,
  };
}

/** A causal convolution by 3x3x3 that keeps the size of the picture; the input holds two earlier frames in front. */
export function causalShape(
  size: Pick<ConvShape, "channels" | "outputs" | "frames" | "height" | "width">,
): ConvShape {
  return {
    ...size,
    inputHeight: size.height,
    inputWidth: size.width,
    window: [3, 3, 3],
    weightFrame: 0,
    stride: 1,
    padding: 1,
    spaceShift: 0,
    timeShift: 0,
    timeOffset: 0,
  };
}
