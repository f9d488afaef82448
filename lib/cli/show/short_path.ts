/** Paths as people would type them. */
import { relative } from "node:path";

/** The path from a folder, by default the current one, where that is shorter, else the path as it is. */
export function shortPath(path: string, folder = "."): string {
  const short = relative(folder, path) || ".";
  return short.length < path.length ? short : path;
}
