/** Mistakes that the user can mend, as opposed to faults of the program. */

/** A mistake the user can mend: the message says what was found and expected and where, the hint says what to do. */
export class UserError extends Error {
  override name = "UserError";
  /** The message without the hint. */
  readonly summary: string;
  /** What to change, or the command to run. */
  readonly hint: string | undefined;

  constructor(summary: string, hint?: string) {
    super(hint === undefined ? summary : `${summary}\nHint: ${hint}`);
    this.summary = summary;
    this.hint = hint;
  }
}

/** Several mistakes of one input (a dataset, a config), reported together so that one pass mends them all. */
export class UserErrors extends UserError {
  override name = "UserErrors";
  readonly problems: readonly string[];

  constructor(what: string, problems: readonly string[], hint?: string) {
    const list = problems.map((problem) => `  - ${problem}`).join("\n");
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
