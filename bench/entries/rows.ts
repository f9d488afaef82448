/** Norms over rows as benchmarks launch them, by the bytes they have to read and write. */
import { headNorm, headNormBackward } from "../../kernels/norm/head.ts";
import { bytesOf, type DType } from "../../kernels/core/kernel.ts";
import { layerNorm, layerNormBackward, rmsNorm } from "../../kernels/norm/layer.ts";
import { modulatedShape } from "../../tests/kernels/shapes.ts";
import { randomBytes } from "../harness.ts";
import type { Entry } from "../suite.ts";

/** Norms over the rows of a joint sequence with 226 rows of text, or half the rows if there are fewer than that. */
export function rowEntries(rowCount: number, width: number, dtype: DType): Entry[] {
  const size = rowCount * width;
  const textRows = Math.min(226, rowCount >> 1);
  const moved = (tensors: number) => tensors * size * bytesOf(dtype);
  const shape = modulatedShape({ rows: rowCount, sequence: rowCount, textRows }, width);
  const rows = () => randomBytes(size, dtype);
  const vector = () => randomBytes(width, "f32");
  const statistics = () =>
    new Uint8Array(Float32Array.from({ length: 4 * rowCount }, (_, i) => [0, 3, 0, 0][i % 4]!).buffer);
  const modulation = () => randomBytes(6 * width, "f32");
  const heads = { rows: rowCount, sequence: rowCount, textRows, heads: width / 64, eps: 1e-6 };
  const tables = () => [randomBytes((rowCount - textRows) * 32, "f32"), randomBytes((rowCount - textRows) * 32, "f32")];
  const head = () => randomBytes(64, "f32");
  const name = `${dtype} ${rowCount}x${width}`;
  const param = "f32" as const;
  return [
    {
      group: "layer norm, modulated",
      name,
      bytes: moved(2),
      launch: (target) => layerNorm(target, { x: dtype, y: dtype, param, modulated: true }, shape),
      contents: () => [rows(), vector(), vector(), size, 4 * rowCount, modulation()],
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
      launch: (target) => rmsNorm(target, { x: dtype, y: dtype, param }, { rows: rowCount, width, eps: 1e-6 }),
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
