/** `deno bench -A bench/norm_bench.ts`: norms over rows and groups, by the bytes they have to read and write. */
import { groupNormApply, groupNormParts, PART_POSITIONS } from "../kernels/norm/group.ts";
import { headNorm, headNormBackward } from "../kernels/norm/head.ts";
import { bytesOf, type DType } from "../kernels/core/kernel.ts";
import { layerNorm, layerNormBackward, rmsNorm } from "../kernels/norm/layer.ts";
import { modulatedShape } from "../tests/kernels/shapes.ts";
import { randomBytes } from "./harness.ts";
import { benchLaunches, type Entry } from "./suite.ts";

const ROWS = 1024;
/** The widths of CogVideoX 2b and 5b. */
const WIDTHS = [1920, 3072];
const STORAGE = ["f32", "bf16"] as const satisfies readonly DType[];

function rowEntries(width: number, dtype: DType): Entry[] {
  const size = ROWS * width;
  const moved = (tensors: number) => tensors * size * bytesOf(dtype);
  const shape = modulatedShape({ rows: ROWS, sequence: ROWS, textRows: 226 }, width);
  const rows = () => randomBytes(size, dtype);
  const vector = () => randomBytes(width, "f32");
  const statistics = () =>
    new Uint8Array(Float32Array.from({ length: 4 * ROWS }, (_, i) => [0, 3, 0, 0][i % 4]!).buffer);
  const modulation = () => randomBytes(6 * width, "f32");
  const heads = { rows: ROWS, sequence: ROWS, textRows: 226, heads: width / 64, eps: 1e-6 };
  const tables = () => [randomBytes((ROWS - 226) * 32, "f32"), randomBytes((ROWS - 226) * 32, "f32")];
  const head = () => randomBytes(64, "f32");
  const name = `${dtype} ${ROWS}x${width}`;
  const param = "f32" as const;
  return [
    {
      group: "layer norm, modulated",
      name,
      bytes: moved(2),
      launch: (target) => layerNorm(target, { x: dtype, y: dtype, param, modulated: true }, shape),
      contents: () => [rows(), vector(), vector(), size, 4 * ROWS, modulation()],
    },
    {
      group: "layer norm backward, modulated",
      name,
      bytes: moved(3),
      launch: (target) => {
        const spec = { x: dtype, g: dtype, dx: dtype, param, modulated: true, accumulate: false };
        return layerNormBackward(target, spec, shape);
      },
      contents: () => [rows(), statistics(), vector(), rows(), size, modulation()],
    },
    {
      group: "RMS norm",
      name,
      bytes: moved(2),
      launch: (target) => rmsNorm(target, { x: dtype, y: dtype, param }, { rows: ROWS, width, eps: 1e-6 }),
      contents: () => [rows(), vector(), size],
    },
    {
      group: "head norm and rotation",
      name,
      bytes: moved(2),
      launch: (target) => headNorm(target, { dtype, param, rotate: true }, heads),
      contents: () => [rows(), head(), head(), size, ...tables()],
    },
    {
      group: "head norm and rotation backward",
      name,
      bytes: moved(3),
      launch: (target) => headNormBackward(target, { dtype, param, rotate: true }, heads),
      contents: () => [rows(), head(), rows(), size, ...tables()],
    },
  ];
}

/** The widest level of the video autoencoder: 128 channels, here of one frame of 120 x 160. */
function groupEntries(dtype: DType): Entry[] {
  const [positions, channels] = [120 * 160, 128];
  const size = positions * channels;
  const parts = Math.ceil(positions / PART_POSITIONS);
  const name = `${dtype} ${positions}x${channels}`;
  return [
    {
      group: "group norm statistics",
      name,
      bytes: size * bytesOf(dtype),
      launch: () => groupNormParts({ dtype }, { positions, channels, firstPart: 0 }),
      contents: () => [randomBytes(size, dtype), 2 * parts * channels],
    },
    {
      group: "group norm and SiLU",
      name,
      bytes: 2 * size * bytesOf(dtype),
      launch: () =>
        groupNormApply({ dtype, silu: true, spatial: false }, {
          positions,
          channels,
          firstPosition: 0,
          outputPosition: 0,
        }),
      contents: () => [randomBytes(size, dtype), randomBytes(2 * channels, "f32"), randomBytes(channels, "f32"), size],
    },
  ];
}

await benchLaunches([
  ...WIDTHS.flatMap((width) => STORAGE.flatMap((dtype) => rowEntries(width, dtype))),
  ...STORAGE.flatMap(groupEntries),
]);
