/**
 * The output folder of a run: taken for this run alone, cleared of what a crash left, and asked for the checkpoint to
 * continue.
 */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError } from "../../errors.ts";
import { cleanLeftovers, listCheckpoints, pruneCheckpoints } from "../../io/checkpoints.ts";
import { requireCommitted } from "../../io/commit_folder.ts";
import { type FolderLock, lockFolder } from "../../io/lock.ts";
import { findCheckpoint, type FoundCheckpoint, readRunState } from "./checkpoint.ts";
import type { TrainConfig } from "../../config/config.ts";

/** Folder of the model with the lowest held-out loss. */
export const BEST_FOLDER = "best";

/** An output folder that belongs to this process until it is disposed. */
export interface OutputFolder extends FolderLock {
  /** Checkpoint to continue from; undefined when the run starts from the beginning. */
  readonly checkpoint: string | undefined;
  /** What an interrupted run had left and is gone; nothing is wrong. */
  readonly cleared: readonly string[];
  /** What was found odd or changed. */
  readonly warnings: readonly string[];
}

type FolderSettings = Pick<
  TrainConfig,
  "output_dir" | "resume_from_checkpoint" | "checkpointing_limit" | "keep_best"
>;

/** The checkpoint that `config` continues; changes nothing. Throws UserError when it names none that is usable. */
export async function checkpointOf(
  { output_dir, resume_from_checkpoint }: FolderSettings,
): Promise<FoundCheckpoint | undefined> {
  return resume_from_checkpoint === undefined ? undefined : await findCheckpoint(resume_from_checkpoint, output_dir);
}

/**
 * Takes the output folder of `config`, creating it if need be.
 *
 * @throws {UserError} when another process has it; when there is nothing to continue; when a run from the beginning
 * would overwrite checkpoints of an earlier one; when what would be replaced was made by no run.
 */
export async function openOutputFolder(config: FolderSettings): Promise<OutputFolder> {
  const { output_dir, resume_from_checkpoint, checkpointing_limit, keep_best } = config;
  // A folder that is not there holds nothing to put back, and a wrong path must not make it.
  const known = existsSync(output_dir) ? undefined : await checkpointOf(config);
  const lock = lockFolder(output_dir);
  try {
    // First of all, because a checkpoint that was being replaced gets its name back.
    const leftovers = cleanLeftovers(output_dir);
    const existing = listCheckpoints(output_dir);
    if (resume_from_checkpoint === undefined && existing.length > 0) {
      throw new UserError(
        `output_dir "${output_dir}" holds ${
          basename(existing.at(-1)!.path)
        } of an earlier run, which this one would overwrite`,
        "add --resume_from_checkpoint latest to continue that run, or choose another output_dir",
      );
    }
    const found = known ?? await checkpointOf(config);
    if (found !== undefined && resume_from_checkpoint === "latest") {
      // The run may have been interrupted between its last commit and the pruning after it.
      await pruneCheckpoints(output_dir, checkpointing_limit, { committed: found.path });
    }
    const begun = found === undefined ? Infinity : readRunState(found.path).step;
    const newer = existing.filter(({ step }) => step > begun);
    // Whatever this run will replace must be of a run: told now, and not after hours.
    const best = join(output_dir, BEST_FOLDER);
    for (const path of [...newer.map(({ path }) => path), ...keep_best && existsSync(best) ? [best] : []]) {
      requireCommitted(path);
    }
    // Damaged ones, which `latest` has passed over, were named already.
    const overwritten = resume_from_checkpoint === "latest" ? [] : newer;
    return {
      checkpoint: found?.path,
      cleared: leftovers.map((name) => `cleared ${name}, which an interrupted run left`),
      warnings: [
        ...(found?.warnings ?? []),
        ...overwritten.map(({ path }) =>
          `"${path}" is of a later step than where this run begins: it is overwritten when that step is reached`
        ),
      ],
      renew: () => lock.renew(),
      [Symbol.dispose]: () => lock[Symbol.dispose](),
    };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}
