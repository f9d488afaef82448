/**
 * Spatial tiling of the video autoencoder: tiles overlap, each is processed by itself, and the overlaps are blended
 * linearly. As norm statistics are per tile, the tile sizes are part of the result, so they follow diffusers to the
 * last truncation.
 */
import type { Rectangle, Volume } from "./volume.ts";
import { spatialCompression, type VaeConfig, type VaePart } from "./config.ts";

/** Size of a tile in pixels, and the part of it that overlaps the next one. */
export interface Tiling {
  readonly sampleHeight: number;
  readonly sampleWidth: number;
  readonly overlapHeight: number;
  readonly overlapWidth: number;
}

/** What diffusers uses unless told otherwise: half the sample size, overlaps of 1/6 and 1/5. */
export function defaultTiling({ sample_height, sample_width }: VaeConfig): Tiling {
  return {
    sampleHeight: Math.floor(sample_height / 2),
    sampleWidth: Math.floor(sample_width / 2),
    overlapHeight: 1 / 6,
    overlapWidth: 1 / 5,
  };
}

/** Tiles along one axis. */
interface Axis {
  /** Half-open ranges in input units. */
  readonly spans: readonly (readonly [number, number])[];
  /** Rows or columns blended, and kept of every tile, in output units. */
  readonly blend: number;
  readonly keep: number;
}

/** The tiles of one video. */
export interface TileGrid {
  readonly rows: Axis;
  readonly columns: Axis;
}

function axis(length: number, sample: number, overlap: number, part: VaePart, compression: number): Axis {
  const latent = Math.trunc(sample / compression);
  const [tile, out] = part === "encoder" ? [sample, latent] : [latent, sample];
  const stride = Math.trunc(tile * (1 - overlap));
  const blend = Math.trunc(out * overlap);
  const spans: [number, number][] = [];
  for (let from = 0; from < length; from += stride) spans.push([from, Math.min(from + tile, length)]);
  return { spans, blend, keep: out - blend };
}

/**
 * Cuts height x width (pixels for the encoder, latents for the decoder); undefined when it is not larger than one tile.
 *
 * @throws {RangeError} when the tiling makes no progress, or leaves a rest smaller than one latent.
 */
export function tileGrid(
  config: VaeConfig,
  part: VaePart,
  [height, width]: readonly [number, number],
  tiling: Tiling,
): TileGrid | undefined {
  const compression = spatialCompression(config);
  const unit = part === "encoder" ? 1 : compression;
  if (height * unit <= tiling.sampleHeight && width * unit <= tiling.sampleWidth) return undefined;
  const smallest = part === "encoder" ? compression : 1;
  const { sampleHeight, sampleWidth, overlapHeight, overlapWidth } = tiling;
  for (const [sample, overlap] of [[sampleHeight, overlapHeight], [sampleWidth, overlapWidth]] as const) {
    const latent = Math.trunc(sample / compression);
    if (!(overlap >= 0 && overlap < 1) || Math.trunc((part === "encoder" ? sample : latent) * (1 - overlap)) < 1) {
      throw new RangeError(`Cannot tile by ${sample} pixels with overlap ${overlap}: tiles would not advance`);
    }
  }
  const rows = axis(height, sampleHeight, overlapHeight, part, compression);
  const columns = axis(width, sampleWidth, overlapWidth, part, compression);
  for (const [from, to] of [...rows.spans, ...columns.spans]) {
    if (to - from < smallest) {
      throw new RangeError(
        `Cannot tile ${height} x ${width} by ${sampleHeight} x ${sampleWidth}: the rest of ${to - from} pixels from ` +
          `${from} on is smaller than one latent (${compression}); choose a size that is a multiple of 16`,
      );
    }
  }
  return { rows, columns };
}

/** The whole picture as one tile. */
export function wholeGrid([height, width]: readonly [number, number], outputs: readonly [number, number]): TileGrid {
  return {
    rows: { spans: [[0, height]], blend: 0, keep: outputs[0] },
    columns: { spans: [[0, width]], blend: 0, keep: outputs[1] },
  };
}

/** The tiles in the order in which they are processed and blended: row by row. */
export function* tiles({ rows, columns }: TileGrid): Generator<{ row: number; column: number; area: Rectangle }> {
  for (const [row, [top, bottom]] of rows.spans.entries()) {
    for (const [column, [left, right]] of columns.spans.entries()) {
      yield { row, column, area: { top, bottom, left, right } };
    }
  }
}

/** Blends the last rows of `above` into the first of `tile`, in place: weight y / e for row y of e. */
function blendAbove(above: Volume, tile: Volume, blend: number): void {
  const [planes, height, width] = planesOf(tile);
  const [, aboveHeight] = planesOf(above);
  const extent = Math.min(aboveHeight, height, blend);
  for (let plane = 0; plane < planes; plane++) {
    for (let y = 0; y < extent; y++) {
      const weight = y / extent;
      const from = (plane * aboveHeight + aboveHeight - extent + y) * width;
      const to = (plane * height + y) * width;
      for (let x = 0; x < width; x++) {
        tile.data[to + x] = above.data[from + x]! * (1 - weight) + tile.data[to + x]! * weight;
      }
    }
  }
}

/** The same along columns. */
function blendLeft(left: Volume, tile: Volume, blend: number): void {
  const [planes, height, width] = planesOf(tile);
  const leftWidth = left.shape[3];
  const extent = Math.min(leftWidth, width, blend);
  for (let row = 0; row < planes * height; row++) {
    const from = row * leftWidth + leftWidth - extent;
    const to = row * width;
    for (let x = 0; x < extent; x++) {
      const weight = x / extent;
      tile.data[to + x] = left.data[from + x]! * (1 - weight) + tile.data[to + x]! * weight;
    }
  }
}

function planesOf({ shape: [channels, frames, height, width] }: Volume): [number, number, number] {
  return [channels * frames, height, width];
}

/** Puts finished tiles together; holds no more than one row of them besides the result. */
export class TileAssembler {
  readonly #above: Volume[] = [];
  #left: Volume | undefined;

  constructor(readonly grid: TileGrid, readonly result: Volume) {}

  /** Blends and crops a tile; tiles come in the order of {@linkcode tiles}, and `tile` is changed. */
  add(row: number, column: number, tile: Volume): void {
    const { rows, columns } = this.grid;
    if (row > 0) blendAbove(this.#above[column]!, tile, rows.blend);
    if (column > 0) blendLeft(this.#left!, tile, columns.blend);
    this.#left = tile;
    this.#above[column] = tile;
    this.#crop(row * rows.keep, column * columns.keep, tile);
  }

  #crop(top: number, left: number, tile: Volume): void {
    const [planes, height, width] = planesOf(tile);
    const [, resultHeight, resultWidth] = planesOf(this.result);
    const keptRows = Math.min(this.grid.rows.keep, height);
    const kept = Math.min(this.grid.columns.keep, width);
    for (let plane = 0; plane < planes; plane++) {
      for (let y = 0; y < keptRows; y++) {
        const from = (plane * height + y) * width;
        this.result.data.set(
          tile.data.subarray(from, from + kept),
          (plane * resultHeight + top + y) * resultWidth + left,
        );
      }
    }
  }
}

/** Height and width of the assembled result, given the output size of every tile's rows and columns. */
export function assembledSize({ rows, columns }: TileGrid, output: (length: number) => number): [number, number] {
  const sum = ({ spans, keep }: Axis) =>
    spans.reduce((total, [from, to]) => total + Math.min(keep, output(to - from)), 0);
  return [sum(rows), sum(columns)];
}
