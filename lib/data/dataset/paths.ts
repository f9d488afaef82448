/** Turns a path written in a dataset into a file of that dataset, and nothing else. */
import { isAbsolute, join, normalize, relative } from "node:path";
import { causeOf, NOT_UTF8 } from "../../io/file_operations.ts";

/** A path as written, the folder it is relative to, and the file and line it comes from. */
export interface RawPath {
  readonly entry: string;
  readonly base: string;
  readonly where: string;
}

/** What a path needs that leads out on purpose. */
const ALLOW = "allow it with --allow_outside true";

/** Whether a path does not lie below `root`. */
export function isOutside(root: string, path: string): boolean {
  const inside = relative(root, path);
  return inside.startsWith("..") || isAbsolute(inside);
}

/**
 * Resolves a path written in a dataset to a regular, non-empty file in `root`.
 *
 * @returns Absolute path, or undefined with the reason added to `problems`.
 */
export async function resolveInside(
  root: string,
  written: RawPath,
  problems: string[],
  allowOutside: boolean,
): Promise<string | undefined> {
  const { entry, base, where } = written;
  const fail = (reason: string): undefined => void problems.push(`${where}: "${entry}" ${reason}`);
  // Reading the list has reported it.
  if (entry.includes("\0")) return undefined;
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(entry)) return fail("is an address; download it and name the file");
  // A drive letter or a backslash shows a list written on Windows; joining it would name a file nobody meant.
  const absolute = isAbsolute(entry) || /^([A-Za-z]:|\\\\)/.test(entry);
  const path = isAbsolute(entry) ? normalize(entry) : join(base, entry);
  if (entry.startsWith("~")) return fail('begins with "~", expected an absolute path or one relative to the list file');
  if (!allowOutside && isOutside(root, path)) {
    return fail(`${absolute ? "is an absolute path that" : ""} leads out of the dataset folder; ${ALLOW}`.trim());
  }
  if (absolute && !isAbsolute(entry)) return fail("is an absolute path of another system");
  try {
    const real = await Deno.realPath(path);
    if (!allowOutside && isOutside(await Deno.realPath(root), real)) {
      return fail(`leads out of the dataset folder through a symbolic link; ${ALLOW}`);
    }
    const info = await Deno.stat(real);
    if (!info.isFile) return fail(`is ${info.isDirectory ? "a folder" : "not a regular file"}, expected a file`);
    if (info.size === 0) return fail("is empty (0 bytes)");
    return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      return fail(`cannot be opened (${causeOf(error).reason})`);
    }
    if (entry.includes(NOT_UTF8)) return fail("has a name that is not UTF-8; rename the file");
    return fail(entry.includes("\\") ? "does not exist; write / between folders" : "does not exist");
  }
}
