/** Flags that belong to one command rather than to the config of a run. */

/** A flag of a command whose other words are settings. */
export interface OwnFlag {
  /** With underscores; dashes are accepted too. */
  readonly name: string;
  /** What stands behind it, as the help shows it; absent for a switch. */
  readonly takes?: string;
  /** What it does, in a sentence without a full stop. */
  readonly brief: string;
}

/** Takes the flags of a command out of rewritten words; the last of a name counts, and a switch is "true". */
export function takeOwn(
  words: readonly string[],
  flags: readonly OwnFlag[],
): { readonly own: ReadonlyMap<string, string>; readonly settings: readonly string[] } {
  const own = new Map<string, string>();
  const settings = words.filter((word) => {
    const flag = flags.find(({ name }) => word.startsWith(`${name}=`));
    if (flag !== undefined) own.set(flag.name, word.slice(flag.name.length + 1));
    return flag === undefined;
  });
  return { own, settings };
}
