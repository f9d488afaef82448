/**
 * Position tables, computed in float64 on the host because kernels' sines are not accurate enough: rotary angles,
 * additive sines, and the sinusoid of a scalar.
 */
import { roundHalfEven } from "../../rounding.ts";
import { innerDim, type TransformerConfig } from "./config.ts";

/** Token grid of a latent: frames, rows and columns of patches. */
export interface TokenGrid {
  readonly frames: number;
  readonly rows: number;
  readonly columns: number;
}

/** Token grid of a latent of `frames` x `height` x `width`. */
export function tokenGrid(config: TransformerConfig, frames: number, height: number, width: number): TokenGrid {
  const { patch_size: p, patch_size_t } = config;
  return { frames: frames / (patch_size_t ?? 1), rows: height / p, columns: width / p };
}

/** Number of video tokens of a grid. */
export function tokenCount({ frames, rows, columns }: TokenGrid): number {
  return frames * rows * columns;
}

/**
 * Sinusoid of a scalar of even width: cosines first, then sines, frequencies 10000^(-i / half). Used for the timestep
 * (width D) and for ofs.
 */
export function scalarSinusoid(value: number, width: number): Float32Array<ArrayBuffer> {
  const half = width / 2;
  const table = new Float32Array(width);
  const logPeriod = Math.fround(-Math.log(10000));
  for (let i = 0; i < half; i++) {
    // The library takes each of these steps in f32; at timestep 999 the roundings together move the angle by 1e-4.
    const frequency = Math.fround(Math.exp(Math.fround(Math.fround(logPeriod * i) / half)));
    const angle = Math.fround(value * frequency);
    table[i] = Math.cos(angle);
    table[half + i] = Math.sin(angle);
  }
  return table;
}

/** Positions along each axis of the grid. */
export interface Positions {
  readonly frames: readonly number[];
  readonly rows: readonly number[];
  readonly columns: readonly number[];
}

const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Plain positions 0, 1, 2 ...: what training uses for every model, and sampling for 1.5. */
export function slicePositions(grid: TokenGrid): Positions {
  return { frames: count(grid.frames), rows: count(grid.rows), columns: count(grid.columns) };
}

/**
 * Positions that crop and resize the grid onto the one the 1.0 models were trained with: what the diffusers pipelines
 * use when sampling 1.0 models. At the base size they equal {@linkcode slicePositions}.
 */
export function cropPositions(config: TransformerConfig, grid: TokenGrid): Positions {
  const { rows: h, columns: w } = grid;
  const baseH = config.sample_height / config.patch_size;
  const baseW = config.sample_width / config.patch_size;
  const tall = h / w > baseH / baseW;
  const resizedH = tall ? baseH : roundHalfEven(baseW / w * h);
  const resizedW = tall ? roundHalfEven(baseH / h * w) : baseW;
  const top = roundHalfEven((baseH - resizedH) / 2);
  const left = roundHalfEven((baseW - resizedW) / 2);
  // A ramp of n points from `start` to (start + length) (n - 1) / n: the end is scaled but the start kept, as diffusers
  // does.
  const ramp = (start: number, length: number, n: number) => {
    const stop = (start + length) * (n - 1) / n;
    return count(n).map((i) => n === 1 ? start : start + i * (stop - start) / (n - 1));
  };
  return { frames: count(grid.frames), rows: ramp(top, resizedH, h), columns: ramp(left, resizedW, w) };
}

/** Rotary tables [tokens, headDim / 2]: one column per pair of neighbouring channels. */
export interface RotaryTables {
  readonly cos: Float32Array<ArrayBuffer>;
  readonly sin: Float32Array<ArrayBuffer>;
}

/** Angles of axis positions for a slice of `width` channels: position * 10000^(-2k / width). */
function axisAngles(positions: readonly number[], width: number): Float64Array[] {
  return positions.map((position) =>
    Float64Array.from({ length: width / 2 }, (_, k) => Math.fround(position) * Math.fround(10000 ** (-2 * k / width)))
  );
}

/** Rotary tables of a head: a quarter of the channels for time, three eighths for rows, three eighths for columns. */
export function rotaryTables(positions: Positions, headDim = 64): RotaryTables {
  const time = axisAngles(positions.frames, headDim / 4);
  const row = axisAngles(positions.rows, 3 * headDim / 8);
  const column = axisAngles(positions.columns, 3 * headDim / 8);
  const half = headDim / 2;
  const tokens = time.length * row.length * column.length;
  const cos = new Float32Array(tokens * half);
  const sin = new Float32Array(tokens * half);
  let at = 0;
  for (const t of time) {
    for (const i of row) {
      for (const j of column) {
        for (const axis of [t, i, j]) {
          for (const angle of axis) {
            // The library multiplies positions and frequencies in f32.
            const rounded = Math.fround(angle);
            cos[at] = Math.cos(rounded);
            sin[at++] = Math.sin(rounded);
          }
        }
      }
    }
  }
  return { cos, sin };
}

function axisSines(position: number, width: number): Float64Array {
  const half = width / 2;
  const values = new Float64Array(width);
  for (let k = 0; k < half; k++) {
    const angle = position * 10000 ** (-k / half);
    values[k] = Math.sin(angle);
    values[half + k] = Math.cos(angle);
  }
  return values;
}

/** Additive positions of the video tokens [tokens, D]: time in the first quarter, then columns, then rows. */
export function sincosTable(config: TransformerConfig, grid: TokenGrid): Float32Array<ArrayBuffer> {
  const d = innerDim(config);
  const spatial = config.spatial_interpolation_scale;
  const sines = (n: number, scale: number, width: number) =>
    count(n).map((i) => axisSines(Math.fround(i / scale), width));
  const time = sines(grid.frames, config.temporal_interpolation_scale, d / 4);
  const row = sines(grid.rows, spatial, 3 * d / 8);
  const column = sines(grid.columns, spatial, 3 * d / 8);
  const table = new Float32Array(tokenCount(grid) * d);
  let at = 0;
  for (const t of time) {
    for (const i of row) {
      for (const j of column) {
        for (const part of [t, j, i]) {
          table.set(part, at);
          at += part.length;
        }
      }
    }
  }
  return table;
}
