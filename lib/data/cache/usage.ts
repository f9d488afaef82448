/**
 * Several runs on one cache: whose turn it is to change what they share, and which entries each of them uses.
 *
 * Locks are the kernel's, so they end with the process that holds them, however it ends.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { fileError, makeFolder } from "../../io/file_operations.ts";
import { lockMode } from "../../io/lock.ts";

/** A file per process, held locked while it lives, lists the keys of the entries it uses. */
const USERS_FOLDER = "in-use";

/**
 * What went wrong with a file of a cache; it lies in the dataset, which need not be the user's own, unless told
 * otherwise.
 */
function cacheError(error: unknown, action: string, path: string): unknown {
  const problem = fileError(error, action, path);
  return problem instanceof UserError
    ? new UserError(problem.summary, "keep the cache elsewhere: --cache_dir FOLDER, on a disk that can be written")
    : problem;
}

/** Waits for this process's turn to change the index or the set of entries; dispose the result to end it. */
export async function takeTurn(folder: string): Promise<Disposable> {
  try {
    mkdirSync(folder, { recursive: true });
    const file = await Deno.open(join(folder, ".index.lock"), { write: true, create: true, mode: lockMode });
    await file.lock(true);
    return file;
  } catch (error) {
    throw cacheError(error, "lock", folder);
  }
}

/**
 * Declares entries as in use until the result is disposed or the process ends. To be called before they are looked at,
 * so that no entry is collected between the look and the use.
 *
 * @throws {UserError} when the folder cannot be written.
 */
export async function useEntries(folder: string, keys: Iterable<string>): Promise<Disposable> {
  using _turn = await takeTurn(folder);
  const users = join(folder, USERS_FOLDER);
  const path = join(users, `${Deno.pid}-${randomBytes(6).toString("hex")}`);
  try {
    mkdirSync(users, { recursive: true });
    const file = Deno.openSync(path, { write: true, createNew: true, mode: lockMode });
    file.lockSync(true);
    file.writeSync(new TextEncoder().encode([...new Set(keys)].join("\n")));
    return {
      [Symbol.dispose](): void {
        file.close();
        rmSync(path, { force: true });
      },
    };
  } catch (error) {
    throw cacheError(error, "write", path);
  }
}

/** Keys of the entries that living processes use. Files that killed processes left are removed; needs the turn. */
export function keysInUse(folder: string): Set<string> {
  const users = join(folder, USERS_FOLDER);
  makeFolder(users);
  const keys = new Set<string>();
  for (const name of readdirSync(users)) {
    const path = join(users, name);
    using file = openIfThere(path);
    if (file === undefined) continue;
    if (file.tryLockSync(true)) rmSync(path, { force: true });
    else for (const key of readFileSync(path, "utf8").split("\n")) keys.add(key);
  }
  return keys;
}

/** A process that ends removes its file whosever turn it is. */
function openIfThere(path: string): Deno.FsFile | undefined {
  try {
    return Deno.openSync(path, { read: true, write: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw fileError(error, "read", path);
  }
}
