/** What a bug is that is put into a copy of the program on purpose. */

/** In `file`, which holds `from` once, it becomes `to`; `tests` must notice. */
export interface Bug {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Files of tests, the smallest that should notice. */
  readonly tests: string;
  /** The only tests of these files that are run, where the others take long. */
  readonly filter?: string;
}

/** Bugs of one subject, by what is wrong. */
export type Bugs = Readonly<Record<string, Bug>>;
