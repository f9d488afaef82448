/** Names of tensors in messages: a file can hold thousands. */

/** Most names that are told. */
const MOST = 3;

/** The first few of `names`, quoted, and how many more there are. */
export function someNames(names: readonly string[]): string {
  const more = names.length > MOST ? ` and ${names.length - MOST} more` : "";
  return names.slice(0, MOST).map((name) => JSON.stringify(name)).join(", ") + more;
}
