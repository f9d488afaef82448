/** Finds, prunes and tidies the checkpoint folders of an output folder. */
import { existsSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseTemporaryName, temporaryName } from "./atomic.ts";
import { verifyFolder } from "./commit_folder.ts";
import { fileError, fileOperations } from "./file_operations.ts";
import type { FileOperations } from "./file_operations.ts";

/** A folder `checkpoint-<step>`. */
export interface Checkpoint {
  /** Path of the folder. */
  readonly path: string;
  /** Optimizer steps done. */
  readonly step: number;
}

/** Name of the folder that holds the checkpoint of a step. */
export function checkpointName(step: number): string {
  return `checkpoint-${step}`;
}

/** The folders called `checkpoint-<step>` in `folder`, oldest first, finished or not. Everything else is ignored. */
export function listCheckpoints(folder: string): Checkpoint[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /^checkpoint-(0|[1-9][0-9]{0,14})$/.test(entry.name))
    .map((entry) => ({ path: join(folder, entry.name), step: Number(entry.name.slice("checkpoint-".length)) }))
    .sort((a, b) => a.step - b.step);
}

/** What {@linkcode latestValid} found. */
export interface LatestCheckpoint {
  /** The newest checkpoint that is exactly as it was committed; undefined when there is none. */
  readonly checkpoint: Checkpoint | undefined;
  /** Newer ones that are damaged, newest first: the caller decides whether an older one will do, and says so. */
  readonly damaged: (Checkpoint & { problems: string[] })[];
}

/** Verifies checkpoints from the newest down, with hashes, until one is good. */
export async function latestValid(folder: string): Promise<LatestCheckpoint> {
  const damaged: LatestCheckpoint["damaged"] = [];
  for (const checkpoint of listCheckpoints(folder).reverse()) {
    const { problems } = await verifyFolder(checkpoint.path);
    if (problems.length === 0) return { checkpoint, damaged };
    damaged.push({ ...checkpoint, problems });
  }
  return { checkpoint: undefined, damaged };
}

/** Options of {@linkcode pruneCheckpoints}. */
export interface PruneOptions {
  /** The checkpoint just committed, known to be good; without it the newest good one is found by hashing. */
  readonly committed?: string;
  /** Replaced by tests. */
  readonly operations?: FileOperations;
}

/**
 * Deletes the oldest checkpoints until `limit` good ones are left. To be called after a commit, never before it.
 *
 * Good means that names and sizes agree with the manifest, and for the newest one the hashes too, so that the last
 * usable checkpoint always survives. Damaged folders, and checkpoints of later steps than the committed one, which a
 * run has left that went further, are neither counted nor touched: they are for the user to judge.
 *
 * @param limit how many to keep, at least 1.
 * @returns the deleted checkpoints.
 */
export async function pruneCheckpoints(
  folder: string,
  limit: number,
  options: PruneOptions = {},
): Promise<Checkpoint[]> {
  if (!Number.isInteger(limit) || limit < 1) {
    throw new RangeError(`Cannot keep ${limit} checkpoints: the limit must be an integer from 1 up`);
  }
  const operations = options.operations ?? fileOperations;
  const good: Checkpoint[] = [];
  const checkpoints = listCheckpoints(folder).reverse();
  const committed = checkpoints.find(({ path }) => basename(path) === basename(options.committed ?? ""));
  for (const checkpoint of checkpoints) {
    if (committed !== undefined && checkpoint.step > committed.step) continue;
    const trusted = good.length > 0 || checkpoint === committed;
    const { problems } = await verifyFolder(checkpoint.path, { hashes: !trusted });
    if (problems.length === 0) good.push(checkpoint);
  }
  const victims = good.slice(limit).reverse();
  for (const { path } of victims) {
    const trash = temporaryName(path, "trash");
    try {
      // Renamed first, so that a crash half-way never leaves a checkpoint that looks complete but is not.
      operations.rename(path, trash);
      operations.remove(trash);
    } catch (error) {
      throw fileError(error, "remove", path);
    }
  }
  return victims;
}

/**
 * Clears up after a crash: removes unfinished and half-deleted files and folders, and puts back what was being
 * replaced. Call it at the start of a run, while holding the lock of `folder`.
 *
 * @returns the names that were removed or put back.
 */
export function cleanLeftovers(folder: string, operations: FileOperations = fileOperations): string[] {
  const cleaned: string[] = [];
  for (const name of readdirSync(folder)) {
    const leftover = parseTemporaryName(name);
    if (leftover === undefined) continue;
    const path = join(folder, name);
    const original = join(folder, leftover.name);
    try {
      if (leftover.kind === "old" && !existsSync(original)) {
        operations.rename(path, original);
        operations.syncPath(dirname(original));
      } else operations.remove(path);
    } catch (error) {
      throw fileError(error, "clear up", path);
    }
    cleaned.push(name);
  }
  return cleaned;
}
