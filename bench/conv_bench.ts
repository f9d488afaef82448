/** `deno bench -A bench/conv_bench.ts`: convolutions of the video autoencoder at its channel counts, on small pictures. */
import type { ConvShape } from "../kernels/matrix/conv_shape.ts";
import type { DType } from "../kernels/core/kernel.ts";
import { convEntry } from "./entries/conv.ts";
import { causalShape } from "../tests/kernels/shapes.ts";
import { benchLaunches } from "./suite.ts";

const STORAGE = ["f32", "f16"] as const satisfies readonly DType[];

const base = causalShape({ channels: 128, outputs: 128, frames: 2, height: 24, width: 32 });

const SHAPES: Readonly<Record<string, ConvShape>> = {
  "3x3x3, 128 to 128": base,
  "3x3x3, 256 to 256": causalShape({ channels: 256, outputs: 256, frames: 2, height: 12, width: 16 }),
  "3x3x3, 3 to 128": { ...base, channels: 4 },
  "1x1x1, 128 to 256": { ...base, outputs: 256, window: [1, 1, 1], padding: 0 },
  "3x3 with stride 2, 128 to 128": { ...base, height: 12, width: 16, window: [1, 3, 3], stride: 2, padding: 0 },
  "3x3 after nearest upsampling, 128 to 128": {
    ...base,
    inputHeight: 12,
    inputWidth: 16,
    window: [1, 3, 3],
    spaceShift: 1,
  },
};

await benchLaunches(
  Object.entries(SHAPES).flatMap(([name, shape]) => STORAGE.map((dtype) => convEntry(name, shape, dtype))),
);
