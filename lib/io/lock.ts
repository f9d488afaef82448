/** Folders that belong to one process at a time. */
import { mkdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { fileError, statIfThere } from "./file_operations.ts";

/** File by which a folder is taken; it stays behind. */
export const lockName = ".lock";

/** Lock files are for their user alone: whoever can open one can hold up a run, and it names a process and a host. */
export const lockMode = 0o600;

/** A folder that belongs to this process until it is disposed. */
export interface FolderLock extends Disposable {
  /**
   * Makes and takes the folder again where somebody has removed it; true when that was so.
   *
   * @throws {UserError} when another process has taken it, as on network file systems whose locks hold nobody off.
   */
  renew(): boolean;
}

/**
 * Takes a folder for this process alone, creating the folder if need be. The lock is the kernel's (`flock`), so it is
 * freed however the process ends; the text in the lock file only tells who holds it.
 *
 * @throws {UserError} naming the process that holds the lock.
 */
export function lockFolder(folder: string): FolderLock {
  const label = `process ${Deno.pid} on ${hostname()}, started ${new Date().toISOString()}`;
  let file = takeLock(folder, label);
  return {
    renew() {
      if (statIfThere(join(folder, lockName))?.ino === file.statSync().ino) {
        const holder = readFileSync(join(folder, lockName), "utf8").trim();
        if (holder !== "" && holder !== label) throw inUse(folder, holder);
        return false;
      }
      const taken = takeLock(folder, label);
      file.close();
      file = taken;
      return true;
    },
    [Symbol.dispose]() {
      // The file stays: removing it while another process waits to open it would let two processes lock two files.
      file.truncateSync();
      file.unlockSync();
      file.close();
    },
  };
}

function takeLock(folder: string, label: string): Deno.FsFile {
  const path = join(folder, lockName);
  let file: Deno.FsFile | undefined;
  try {
    mkdirSync(folder, { recursive: true });
    file = Deno.openSync(path, { read: true, write: true, create: true, mode: lockMode });
    if (file.tryLockSync(true)) {
      writeLabel(file, label);
      return file;
    }
  } catch (error) {
    file?.close();
    throw fileError(error, "lock", folder);
  }
  file.close();
  throw inUse(folder, readFileSync(path, "utf8").trim());
}

/** Writes into a file that this process has locked, and gives the lock back where that fails. */
function writeLabel(file: Deno.FsFile, label: string): void {
  try {
    file.truncateSync();
    file.writeSync(new TextEncoder().encode(`${label}\n`));
  } catch (error) {
    // Closing is not enough: a program that another thread starts holds a copy of the open file until it runs.
    file.unlockSync();
    throw error;
  }
}

function inUse(folder: string, holder: string): UserError {
  return new UserError(
    `"${folder}" is in use by ${holder === "" ? "another process" : holder}`,
    "wait for it to end, stop it, or choose another output folder",
  );
}
