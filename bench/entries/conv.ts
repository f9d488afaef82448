/** Convolutions of the video autoencoder as benchmarks launch them. */
import { convolution } from "../../kernels/matrix/conv.ts";
import type { ConvShape } from "../../kernels/matrix/conv_shape.ts";
import type { DType } from "../../kernels/core/kernel.ts";
import { randomBytes } from "../harness.ts";
import type { Entry } from "../suite.ts";

/** A convolution with a bias. */
export function convEntry(name: string, shape: ConvShape, dtype: DType): Entry {
  const { channels, outputs, frames, height, width, inputHeight, inputWidth, window: [kt, kh, kw] } = shape;
  return {
    group: name,
    name: dtype,
    launch: (target) =>
      convolution(
        target,
        { x: dtype, weight: dtype, y: dtype, bias: true, residual: false, accumulate: false },
        shape,
      ),
    contents: () => ({
      x: randomBytes((frames + kt - 1) * inputHeight * inputWidth * channels, dtype),
      weight: randomBytes(kt * kh * kw * channels * outputs, dtype),
      bias: randomBytes(outputs, "f32"),
      y: frames * height * width * outputs,
    }),
  };
}
