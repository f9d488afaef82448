/** Averaging of neighbouring frames in front of the downsampler that compresses time. */
import { averageFramePairs } from "../../../kernels/rows/resample.ts";
import type { Tensor } from "../../plan/tensor.ts";
import { entries, frameBytes, slices, type VideoContext } from "./frames.ts";

/**
 * Records y [ceil(frames / 2), h, w, channels]: means of pairs of frames; the first frame of an odd number stays as it
 * is. A single frame is returned unchanged.
 */
export function halveFrames(context: VideoContext, x: Tensor): Tensor {
  const [frames, ...inner] = x.shape as [number, number, number, number];
  if (frames === 1) return x;
  const odd = frames % 2;
  const y = context.plan.transient("halved frames", [Math.ceil(frames / 2), ...inner], x.dtype);
  slices(context, y.shape[0]!, x.bytes <= context.bindingBytes ? 0 : 2 * frameBytes(x), (from, count) => {
    const keepFirst = odd === 1 && from === 0;
    const source = entries(x, Math.max(0, 2 * from - odd), 2 * count - (keepFirst ? 1 : 0));
    const target = entries(y, from, count);
    const shape = { frames: count, frameSize: x.size / frames, keepFirst };
    context.plan.launch(averageFramePairs({ dtype: x.dtype }, shape), [source, target], [target]);
  });
  return y;
}
