/** What the texts of norms over the channels of rows are given, and what they make of it. */
import type { Target } from "../core/kernel.ts";

/** How a norm weighs its columns. */
export interface ColumnWeights {
  readonly target: Target;
  /** Channels of a row. */
  readonly width: number;
  /** Rows that are worked on at once, at most four: as many as a vector of their sums has components. */
  readonly rows: number;
  /** Statements behind the location of the rows. */
  readonly start: string;
  /** Declares what the norm multiplies and adds at column `c`. */
  readonly affine: (c: string) => string;
}

/** The text of a norm. */
export interface NormText {
  readonly declarations: string;
  readonly body: string;
}
