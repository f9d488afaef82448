/** Mistakes that the user can mend, as opposed to faults of the program. */

/**
 * A mistake the user can mend: the message says what was found and expected and where, the hint says what to do.
 *
 * @example
 * ```ts
 * import { loadConfig, UserError } from "@cogtune/cogtune";
 *
 * try {
 *   await loadConfig({ fileName: "nowhere.yaml" });
 * } catch (error) {
 *   if (!(error instanceof UserError) || error.hint === undefined) throw error;
 * }
 * ```
 */
export class UserError extends Error {
  /** Name of the class. */
  override name = "UserError";
  /** The message without the hint. */
  readonly summary: string;
  /** What to change, or the command to run. */
  readonly hint: string | undefined;

  /** The message is the summary and, on a line of its own, the hint. */
  constructor(summary: string, hint?: string) {
    super(hint === undefined ? summary : `${summary}\nHint: ${hint}`);
    this.summary = summary;
    this.hint = hint;
  }
}

/** Problems in a message: a dataset of this size can be mended from it, a hostile file cannot flood the terminal. */
const MOST_LISTED = 100;

/**
 * Several mistakes of one input (a dataset, a config), reported together so that one pass mends them all.
 *
 * @example
 * ```ts
 * import { parseConfig, UserErrors } from "@cogtune/cogtune";
 *
 * try {
 *   parseConfig("model: 5b\nrank: 0\nlearning_rat: 1");
 * } catch (error) {
 *   if (!(error instanceof UserErrors) || error.problems.length !== 2) throw error;
 * }
 * ```
 */
export class UserErrors extends UserError {
  /** Name of the class. */
  override name = "UserErrors";
  /** One sentence each. */
  readonly problems: readonly string[];

  /** The message says what is wrong as a whole, and lists the problems, up to a number that somebody may read. */
  constructor(what: string, problems: readonly string[], hint?: string) {
    const more = problems.length - MOST_LISTED;
    const shown = more > 0 ? [...problems.slice(0, MOST_LISTED), `and ${more} more`] : problems;
    const list = shown.map((problem) => `  - ${problem}`).join("\n");
    super(`${what}: ${problems.length} problem${problems.length === 1 ? "" : "s"}\n${list}`, hint);
    this.problems = problems;
  }
}

/**
 * A mistake as one entry of a longer list of problems: what is wrong and, behind a semicolon, what to do.
 *
 * @throws `error` itself when it is no {@linkcode UserError}.
 */
export function problemOf(error: unknown): string {
  if (!(error instanceof UserError)) throw error;
  const { summary, hint } = error;
  return (hint === undefined ? summary : `${summary}; ${hint}`).replaceAll("\n", "\n  ");
}

/** What was thrown, in words; libraries may throw what is no `Error`. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
