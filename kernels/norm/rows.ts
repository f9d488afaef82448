/** Splits the rows of a joint text and video sequence into small groups that share their modulation. */
import { unroll } from "../core/wgsl.ts";

/** Rows of a joint sequence: row `b * sequence + n` is text when `n < textRows`, else video. */
export interface SegmentRows {
  /** batch * sequence. */
  readonly rows: number;
  readonly sequence: number;
  readonly textRows: number;
}

/** Rows one group of lanes works on at once, so that gamma, beta and modulation are loaded once for all of them. */
export const GROUP_ROWS = 4;

/** Names of the words that {@linkcode locateRows} reads. */
export const ROW_PARAMS: readonly string[] = [
  "sequence",
  "text_rows",
  "text_groups",
  "video_groups",
  "batch",
  "groups",
];

/** Values of {@linkcode ROW_PARAMS}, and how many groups of `size` rows there are. */
export function rowGroups(shape: SegmentRows, size = GROUP_ROWS): { params: number[]; groups: number } {
  const { rows, sequence, textRows } = shape;
  if (rows % sequence !== 0 || textRows > sequence) {
    throw new RangeError(
      `Cannot split ${rows} rows into sequences of ${sequence} with ${textRows} text rows: rows must be a multiple`,
    );
  }
  const batch = rows / sequence;
  const text = Math.ceil(textRows / size);
  const video = Math.ceil((sequence - textRows) / size);
  const groups = batch * (text + video);
  const params = [sequence, textRows, text, video, batch, groups];
  return { params, groups };
}

/**
 * From the number of a group of `size` rows (an expression) gives `b` (batch element), `text` (whether it is text), for
 * each of its rows `row0`.. (clamped, safe to load) and `live0`.. (whether to store). No lane leaves early, so subgroup
 * operations may follow.
 */
export function locateRows(group: string, size = GROUP_ROWS): string {
  return `  let group = ${group};
  let per_batch = params.text_groups + params.video_groups;
  let b = min(group / per_batch, params.batch - 1u);
  let k = group % per_batch;
  let text = k < params.text_groups;
  let first = select(params.text_rows + (k - params.text_groups) * ${size}u, k * ${size}u, text);
  let end = select(params.sequence, params.text_rows, text);
${
    unroll(size, (i) =>
      `  let row${i} = b * params.sequence + min(first + ${i}u, end - 1u);
  let live${i} = group < params.groups && first + ${i}u < end;`)
  }`;
}

/** Few rows like those of a shape: groups of four of text and of video, and what is left of both. */
export function probeRows({ rows, sequence, textRows }: SegmentRows): SegmentRows {
  const short = Math.min(sequence, 13);
  return { rows: rows / sequence * short, sequence: short, textRows: Math.min(textRows, 5, short) };
}
