/** The operations that change a file system, and what their failures mean for a user. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { messageOf, UserError } from "../errors.ts";

/**
 * Every operation by which this library changes a file system, so that tests can make any single one fail or can
 * stop the world after it, and can see the order of writes and fsyncs.
 */
export interface FileOperations {
  /** Creates a file that must not exist yet and returns its descriptor. */
  create(path: string): number;
  /** Writes some of the bytes at the end of the file and returns how many. */
  write(descriptor: number, bytes: Uint8Array): number;
  /** Forces the content of an open file to the disk. */
  sync(descriptor: number): void;
  /** Closes an open file. */
  close(descriptor: number): void;
  /** Forces a file, or the names in a folder, to the disk. */
  syncPath(path: string): void;
  /** Renames a file or folder within a file system, replacing a file of the new name. */
  rename(from: string, to: string): void;
  /** Creates a folder that must not exist yet. */
  makeFolder(path: string): void;
  /** Removes a file or a whole folder; nothing happens when there is none. */
  remove(path: string): void;
}

/** The real file system. */
export const fileOperations: FileOperations = {
  create: (path) => openSync(path, "wx"),
  write: (descriptor, bytes) => writeSync(descriptor, bytes),
  sync: fsyncSync,
  close: closeSync,
  syncPath(path) {
    const folder = statSync(path).isDirectory();
    // Windows has no way to sync a folder; its renames are journalled.
    if (folder && Deno.build.os === "windows") return;
    const descriptor = openSync(path, folder ? "r" : "r+");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  },
  rename: renameSync,
  makeFolder: (path) => mkdirSync(path),
  remove: (path) => rmSync(path, { recursive: true, force: true }),
};

/** Creates a folder and those above it. Throws UserError when the system refuses. */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw fileError(error, "create", path);
  }
}

/**
 * What is at `path`, links followed; undefined when nothing is. For Deno's `throwIfNoEntry: false` a file in the place
 * of a folder above it is an error.
 */
export function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw fileError(error, "read", path);
  }
}

/** How many bytes a failed write was about, for the message of a full disk. */
export interface WantedBytes {
  /** Bytes of the file or folder. */
  readonly bytes: number;
  /** Whether more would have followed. */
  readonly atLeast: boolean;
}

/**
 * Translates a failed file operation into words a user can act on.
 *
 * @param action what was being done, "write" for example.
 * @param wanted size of the whole file or folder, as far as it is known.
 * @returns a `UserError`; `error` itself when its cause is not one a user can mend.
 */
export function fileError(error: unknown, action: string, path: string, wanted?: WantedBytes): unknown {
  const code = codeOf(error);
  // A full disk is reported for the folder being committed rather than for a file in it with a temporary name.
  if (error instanceof DiskFullError || isFull(code)) return diskFull(error, action, path, wanted);
  if (error instanceof UserError) return error;
  const { reason, advice } = code === "ENOENT" && path.includes(NOT_UTF8) ? UNREADABLE_NAME : causeOf(error);
  return advice === undefined ? error : new UserError(`Cannot ${action} "${path}": ${reason}`, advice);
}

/** What Deno shows for bytes of a name that are not UTF-8; it finds no file by what it shows. */
export const NOT_UTF8 = "\ufffd";

/** Why such a file is not found. */
const UNREADABLE_NAME = { reason: "its name is not UTF-8", advice: "rename it" };

/** Why a file operation failed, in few words that name no path. */
export interface FileCause {
  readonly reason: string;
  /** What helps; undefined when the cause is not one a user can mend. */
  readonly advice?: string;
}

function causes(codes: readonly string[], reason: string, advice: string): Readonly<Record<string, FileCause>> {
  return Object.fromEntries(codes.map((code) => [code, { reason, advice }]));
}

/** Causes by the code of the failure. */
const CAUSES: Readonly<Record<string, FileCause>> = {
  ...causes(["EACCES", "EPERM"], "permission denied", "give this user access to it or choose another folder"),
  ...causes(["EROFS"], "the file system is read-only", "choose a folder on a writable disk"),
  ...causes(["ENOENT"], "it or its folder does not exist", "check the path"),
  // A folder is made where there is none yet, files get names of their own: only a file can be in the way.
  ...causes(
    ["EEXIST", "EISDIR", "ENOTDIR"],
    "a file stands where a folder is expected, or the reverse",
    "check the path",
  ),
  ...causes(["ELOOP"], "its symbolic links lead in a circle", "give the path of what they should lead to"),
  ...causes(["ENAMETOOLONG"], "the name is too long (most file systems allow 255 bytes)", "choose a shorter one"),
  ...causes(["EMFILE", "ENFILE"], "too many files are open", "raise the limit with `ulimit -n 4096`"),
  ...causes(["EIO"], "the disk reports an input/output error", "check the disk and its connection"),
};

/** What a failed file operation means. */
export function causeOf(error: unknown): FileCause {
  const cause = CAUSES[String(codeOf(error))] ?? { reason: messageOf(error) };
  return cause === CAUSES.EACCES || cause === CAUSES.EPERM ? { ...cause, reason: `${cause.reason}${toUser()}` } : cause;
}

/** Names the user that this program runs as, where it may know that. */
function toUser(): string {
  const isKnown = Deno.permissions.querySync({ name: "sys", kind: "uid" }).state === "granted";
  const user = isKnown ? Deno.uid() : null;
  return user === null ? "" : ` to user ${user}`;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error ? (error as { code?: unknown }).code : undefined;
}

function isFull(code: unknown): boolean {
  return code === "ENOSPC" || code === "EDQUOT";
}

/** A disk without room for a file, with the bytes of that file as far as they are known. */
class DiskFullError extends UserError {
  constructor(message: string, hint: string, readonly bytes: number, readonly quota = false) {
    super(message, hint);
  }
}

/** Bytes of the file that a disk had no room for; 0 for every other error. */
export function bytesRefused(error: unknown): number {
  return error instanceof DiskFullError ? error.bytes : 0;
}

function diskFull(error: unknown, action: string, path: string, wanted?: WantedBytes): UserError {
  const quota = codeOf(error) === "EDQUOT" || (error instanceof DiskFullError && error.quota);
  const reason = quota ? "the disk quota is used up" : "the disk is full";
  const need = wanted === undefined ? "" : `${wanted.atLeast ? "at least " : ""}${wanted.bytes} bytes are wanted, `;
  return new DiskFullError(
    `Cannot ${action} "${path}": ${reason}; ${need}${freeBytes(path)} bytes are free there`,
    "free space or choose another folder, then run the same command; files written earlier are as they were",
    wanted?.bytes ?? 0,
    quota,
  );
}

/** Bytes an unprivileged user can still write on the file system of `path` (or of its nearest existing parent). */
export function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(nearestExisting(path));
  return bavail * bsize;
}

/** What tells file systems apart: two paths with equal numbers share their free space. */
export function fileSystemOf(path: string): number {
  return statSync(nearestExisting(path)).dev;
}

function nearestExisting(path: string): string {
  const parent = dirname(path);
  return existsSync(path) || parent === path ? path : nearestExisting(parent);
}

/**
 * Makes sure before a large write that the disk can hold it.
 *
 * @throws {UserError} when fewer than `bytes` are free where `path` is or will be.
 */
export function requireFreeBytes(path: string, bytes: number): void {
  const free = freeBytes(path);
  if (free >= bytes) return;
  throw new DiskFullError(
    `Not enough disk space for "${path}": ${bytes} bytes are wanted, ${free} bytes are free there`,
    "free space or choose another folder, then run the same command; files written earlier are as they were",
    bytes,
  );
}
