/**
 * The one place where a process that this program started writes to its parent: a line of standard output with a value
 * that structured clone can copy, among whatever drivers print.
 */
import { deserialize, serialize } from "node:v8";

const MARK = "cogtune-report ";

/** Tells the parent process a value. */
export function tellParent(value: unknown): void {
  const line = new TextEncoder().encode(`${MARK}${new Uint8Array(serialize(value)).toBase64()}\n`);
  for (let at = 0; at < line.length;) at += Deno.stdout.writeSync(line.subarray(at));
}

/** The value in a line of a child's output; undefined for other lines, null for one that its end has torn. */
export function readReport(line: string): unknown {
  if (!line.startsWith(MARK)) return undefined;
  try {
    return deserialize(Uint8Array.fromBase64(line.slice(MARK.length)));
  } catch {
    return null;
  }
}
