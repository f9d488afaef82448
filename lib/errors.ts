/** A mistake the user can mend: the message says what was found and expected and where, the hint says what to do. */
export class UserError extends Error {
  override name = "UserError";
  /** What to change, or the command to run. */
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(hint === undefined ? message : `${message}\nHint: ${hint}`);
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
