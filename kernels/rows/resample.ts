/** Frame-wise moves of channels-last video [frames, h, w, channels]: averaging pairs of frames, and copying frames. */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel } from "../core/wgsl.ts";

/** Shapes of {@linkcode averageFramePairs}. */
export interface PairShape {
  /** Frames of the output. */
  readonly frames: number;
  /** Elements of one frame, a multiple of four. */
  readonly frameSize: number;
  /** Frame 0 of the output is frame 0 of the input alone, and pairs begin behind it. */
  readonly keepFirst: boolean;
}

/** Halves the frame rate: y[k] = (x[a] + x[a + 1]) / 2 with pairs in order. Buffers: x, y. */
export function averageFramePairs(
  { dtype }: { readonly dtype: DType },
  { frames, frameSize, keepFirst }: PairShape,
): Launch {
  const kernel = buildKernel({
    name: "average_frame_pairs",
    spec: { dtype },
    params: ["count", "frame4", "keep_first"],
    buffers: [{ name: "x", dtype }, { name: "y", dtype }],
    workgroupSize: THREADS,
    body: `if (gid >= params.count) { return; }
let frame = gid / params.frame4;
let inside = gid % params.frame4;
let second = 2u * frame + 1u - params.keep_first;
let first = max(second, 1u) - 1u;
store_y(gid, 0.5 * (load_x(first * params.frame4 + inside) + load_x(second * params.frame4 + inside)));`,
  });
  const count = frames * frameSize / 4;
  return {
    kernel,
    params: [count, frameSize / 4, keepFirst ? 1 : 0],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 2 * frames * frameSize,
  };
}

/** Shapes of {@linkcode copyFrames}, in elements, multiples of four. */
export interface CopyShape {
  readonly size: number;
  /** Where reading and writing begin. */
  readonly from: number;
  readonly to: number;
}

/** Copies elements: y[to + i] = x[from + i]. Buffers: x, y. */
export function copyFrames({ dtype }: { readonly dtype: DType }, { size, from, to }: CopyShape): Launch {
  const kernel = buildKernel({
    name: "copy_frames",
    spec: { dtype },
    params: ["count", "from4", "to4"],
    buffers: [{ name: "x", dtype }, { name: "y", dtype }],
    workgroupSize: THREADS,
    body: `if (gid >= params.count) { return; }
store_y(params.to4 + gid, load_x(params.from4 + gid));`,
  });
  return {
    kernel,
    params: [size / 4, from / 4, to / 4],
    grid: foldGrid(Math.ceil(size / 4 / THREADS)),
    flops: 0,
  };
}
