/** Keeps a cache within its limit: entries that no run uses go, those unused longest first. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseTemporaryName } from "../../io/atomic.ts";
import { statIfThere } from "../../io/file_operations.ts";
import type { SampleCache } from "./cache.ts";
import { CACHE_KINDS } from "./key.ts";
import { keysInUse, takeTurn } from "./usage.ts";

/** An unfinished file this old belongs to a process that is gone: writing one takes less than a minute. */
const ABANDONED_MILLISECONDS = 3_600_000;

/** What was removed. */
export interface Collected {
  /** Entries. */
  readonly removed: number;
  /** Their bytes. */
  readonly bytes: number;
}

/**
 * Removes unused entries until the others take at most `limit` bytes, and unfinished files that killed processes left.
 * Entries that any living process has declared with {@linkcode useEntries} stay, whatever they take.
 */
export async function collectGarbage(cache: SampleCache, limit: number): Promise<Collected> {
  using _turn = await takeTurn(cache.folder);
  for (const kind of CACHE_KINDS) removeAbandoned(dirname(cache.pathOf(kind, "")));
  const entries = CACHE_KINDS.flatMap((kind) =>
    cache.keys(kind).flatMap((key) => {
      const path = cache.pathOf(kind, key);
      const info = statIfThere(path);
      return info === undefined ? [] : [{ key, path, size: info.size, lastUse: info.mtimeMs }];
    })
  );
  const used = keysInUse(cache.folder);
  const unused = entries.filter(({ key }) => !used.has(key)).sort((a, b) => a.lastUse - b.lastUse);
  let excess = entries.reduce((sum, { size }) => sum + size, -limit);
  let removed = 0;
  let bytes = 0;
  for (const { path, size } of unused) {
    if (excess <= 0) break;
    rmSync(path, { force: true });
    excess -= size;
    bytes += size;
    removed++;
  }
  return { removed, bytes };
}

function removeAbandoned(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (parseTemporaryName(name) === undefined) continue;
    const info = statIfThere(join(folder, name));
    if (info !== undefined && Date.now() - info.mtimeMs > ABANDONED_MILLISECONDS) {
      rmSync(join(folder, name), { force: true });
    }
  }
}
