/**
 * Programs of others that this one starts: where they are, and what of the environment they see. A folder that `PATH`
 * names relative to the current one is passed over, because whoever fills a folder of clips could bring a program with
 * it.
 */
import { existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, sep } from "node:path";
import { UserError } from "../errors.ts";

const isWindows = Deno.build.os === "windows";

/**
 * Variables that programs get: where they find others, where they write for a while, how they speak and by which proxy
 * they reach a network. Tokens are not among them, nor what makes the loader or ffmpeg run or write something else
 * (LD_PRELOAD, LD_AUDIT, FFREPORT).
 */
const KEPT: readonly string[] = [
  ...["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "http_proxy", "https_proxy", "no_proxy"],
  ...(isWindows ? ["SystemRoot", "TEMP", "TMP"] : []),
];

/** Whether every program may be run; who may run some only is refused libraries for them, and signals to others. */
function mayRunAll(): boolean {
  return Deno.permissions.querySync({ name: "run" }).state === "granted";
}

/** The environment that programs get, for `Deno.Command` with `clearEnv`. */
export function programEnvironment(): Record<string, string> {
  // Modules of clusters bring libraries this way.
  const names = mayRunAll() ? [...KEPT, "LD_LIBRARY_PATH"] : KEPT;
  const values = names.map((name) => [name, Deno.env.get(name)] as const);
  return Object.fromEntries(values.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** The absolute path of a program; undefined when no absolute folder of `PATH` has it. */
export function findProgram(name: string): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(delimiter).filter(isAbsolute);
  return folders.map((folder) => join(folder, isWindows ? `${name}.exe` : name)).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    const { isFile, mode } = Deno.statSync(path);
    return isFile && (isWindows || (mode! & 0o111) !== 0);
  } catch (error) {
    // A folder that this user may not enter is no reason to stop; a permission that Deno was not given is.
    if (error instanceof Deno.errors.NotCapable) throw error;
    return false;
  }
}

/** Ends a program that was started with `detached`, and what it has started itself, as wrappers do. */
export function endProgram(child: Deno.ChildProcess): void {
  try {
    if (!isWindows && mayRunAll()) Deno.kill(-child.pid, "SIGKILL");
    else child.kill("SIGKILL");
  } catch {
    // It has just ended by itself.
  }
}

/**
 * Makes sure that none of these programs lies where a run writes: with the permission to write there and to run them,
 * whatever takes their place could be run.
 *
 * @throws {UserError} with the program and the folder.
 */
export function requireOutside(names: readonly string[], folders: readonly string[]): void {
  for (const name of names) {
    const path = findProgram(name);
    if (path === undefined) continue;
    // The file itself, and the link by which it is found.
    const places = [realpathSync(path), join(realpathSync(dirname(path)), name)];
    for (const folder of folders.filter((folder) => existsSync(folder))) {
      const inside = `${realpathSync(folder)}${sep}`;
      if (!places.some((place) => place.startsWith(inside))) continue;
      throw new UserError(
        `"${folder}" is written to and holds the program ${name} ("${path}"), which is run: what is written there could ` +
          "take its place",
        "choose another folder, or take the program's folder out of PATH",
      );
    }
  }
}
