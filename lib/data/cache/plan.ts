/** Says before any encoding what a cache holds already, and keeps a table that people can read. */
import { join } from "node:path";
import { writeFileAtomic } from "../../io/atomic.ts";
import type { SampleCache } from "./cache.ts";
import { CACHE_KINDS, type CacheFields, cacheKey, type CacheKind, type CacheRequest } from "./key.ts";
import { takeTurn } from "./usage.ts";

/** A request whose entry has to be built, and why. */
export interface MissingEntry {
  readonly request: CacheRequest;
  readonly key: string;
  /** Fields that differ from the entry the same sample had before; empty for a sample seen for the first time. */
  readonly changed: readonly string[];
}

/** How a set of requests relates to a cache; requests with one key (a prompt used twice) count once. */
export interface CachePlan {
  readonly reused: readonly { readonly request: CacheRequest; readonly key: string }[];
  readonly new: readonly MissingEntry[];
  readonly changed: readonly MissingEntry[];
}

interface IndexEntry {
  readonly kind: CacheKind;
  /** Every sample that uses or used the entry. */
  readonly names: readonly string[];
  readonly fields: CacheFields;
}

function indexPath(cache: SampleCache): string {
  return join(cache.folder, "index.json");
}

function isIndexEntry(value: unknown): value is IndexEntry {
  const { names, fields } = Object(value) as Partial<IndexEntry>;
  return Array.isArray(names) && typeof fields === "object" && fields !== null;
}

/** The table as it was saved, without entries that are gone, completed from the entries themselves. */
async function readIndex(cache: SampleCache): Promise<Map<string, IndexEntry>> {
  let saved: Readonly<Record<string, unknown>> = {};
  try {
    saved = Object(JSON.parse(await Deno.readTextFile(indexPath(cache))));
  } catch {
    // Missing or damaged: every entry says itself what it is.
  }
  const index = new Map<string, IndexEntry>();
  for (const kind of CACHE_KINDS) {
    for (const key of cache.keys(kind)) {
      const entry = saved[key];
      if (isIndexEntry(entry) && entry.kind === kind) index.set(key, entry);
      else {
        const described = cache.describe(kind, key);
        if (described !== undefined) index.set(key, { kind, names: [described.name], fields: described.fields });
      }
    }
  }
  return index;
}

function differentFields(a: CacheFields, b: CacheFields): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name]).sort();
}

/** Sorts requests into those whose entry exists and those to be built. */
export async function planCache(cache: SampleCache, requests: readonly CacheRequest[]): Promise<CachePlan> {
  const index = await readIndex(cache);
  const previous = new Map<string, IndexEntry>();
  for (const entry of index.values()) for (const name of entry.names) previous.set(`${entry.kind} ${name}`, entry);
  const reused: CachePlan["reused"][number][] = [];
  const fresh: MissingEntry[] = [];
  const changed: MissingEntry[] = [];
  const seen = new Set<string>();
  for (const request of requests) {
    const key = cacheKey(request);
    if (seen.has(key)) continue;
    seen.add(key);
    const before = previous.get(`${request.kind} ${request.name}`);
    if (index.has(key)) reused.push({ request, key });
    else if (before === undefined) fresh.push({ request, key, changed: [] });
    else changed.push({ request, key, changed: differentFields(before.fields, request.fields) });
  }
  return { reused, new: fresh, changed };
}

/** One line for people, such as "412 reused, 3 new, 1 changed (prompt of videos/a.mp4)". */
export function describePlan(plan: CachePlan): string {
  const shown = plan.changed.slice(0, 3).map(({ request }) => `${request.kind} of ${request.name}`);
  if (plan.changed.length > shown.length) shown.push(`${plan.changed.length - shown.length} more`);
  const names = shown.length === 0 ? "" : ` (${shown.join(", ")})`;
  return `${plan.reused.length} reused, ${plan.new.length} new, ${plan.changed.length} changed${names}`;
}

/**
 * Writes `index.json`: for every entry its kind, the samples it belongs to and what it was made from. Runs that share
 * the folder take turns, and each keeps what the others wrote.
 */
export async function writeIndex(cache: SampleCache, requests: readonly CacheRequest[]): Promise<void> {
  using _turn = await takeTurn(cache.folder);
  const index = await readIndex(cache);
  const byKey = new Map(requests.map((request) => [cacheKey(request), request]));
  // A sample belongs to its latest entry only; the earlier one keeps its other names.
  const current = new Set(requests.map((request) => `${request.kind} ${request.name}`));
  for (const [key, entry] of index) {
    if (byKey.has(key)) continue;
    index.set(key, { ...entry, names: entry.names.filter((name) => !current.has(`${entry.kind} ${name}`)) });
  }
  for (const request of requests) {
    const key = cacheKey(request);
    const entry = index.get(key);
    if (entry !== undefined && !entry.names.includes(request.name)) {
      index.set(key, { ...entry, names: [...entry.names, request.name] });
    }
  }
  await writeFileAtomic(indexPath(cache), `${JSON.stringify(Object.fromEntries(index), null, 1)}\n`);
}
