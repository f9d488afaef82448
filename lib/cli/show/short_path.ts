/** Paths as people would type them. */
import { relative } from "node:path";

/** The path from the current folder where that is shorter, else the path as it is. */
export function shortPath(path: string): string {
  const short = relative(".", path) || ".";
  return short.length < path.length ? short : path;
}
