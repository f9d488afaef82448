/** What was measured on a card, kept in the user's cache folder: a file per adapter, driver and engine. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { vulkanDevices } from "../comm/native/vulkan.ts";
import type { AdapterReport } from "../gpu/adapter.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { makeFolder } from "../io/file_operations.ts";
import { readJsonObject } from "../io/json_file.ts";

/** What does arithmetic, each with a rate of its own: matrix units, packed f16, and f32. */
export const ARITHMETIC = ["units", "f16", "f32"] as const;

const measured = z.strictObject({
  /** Digest of the texts of all variants: with other texts the figures mean nothing. */
  texts: z.string(),
  /** Name of the fastest variant. */
  variant: z.string(),
  /** Milliseconds by variant. */
  milliseconds: z.record(z.string(), z.number().nonnegative()),
  /** Why variants are not used, by name. */
  refused: z.record(z.string(), z.string()),
});

const peaks = z.strictObject({
  /** Digest of the texts that were measured. */
  texts: z.string(),
  /** Operations per second, a multiply-add as two, by what does them. */
  operations: z.partialRecord(z.enum(ARITHMETIC), z.number().positive()),
  /** Bytes per second that a copy reads and writes. */
  bytesPerSecond: z.number().positive().optional(),
  /** Why others are not known. */
  refused: z.record(z.string(), z.string()),
});

const table = z.strictObject({
  card: z.string(),
  problems: z.record(z.string(), measured),
  peaks: peaks.optional(),
});

/** Ceilings of a card. */
export type Peaks = z.output<typeof peaks>;

/** What was found out about one problem. */
export type Measured = z.output<typeof measured>;

/** Everything measured on one card, by keys of problems. */
export type Table = z.output<typeof table>;

/**
 * Where tables are kept unless a folder is given; from the environment alone, as `plan` has no permission to ask the
 * system.
 */
function usualFolder(): string {
  const home = Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE") ?? ".";
  return join(Deno.env.get("XDG_CACHE_HOME") || join(home, ".cache"), "cogtune", "kernels");
}

/** Name of an adapter with its driver and the engine in front of it: figures and choices hold for this alone. */
export function cardOf({ engine, description, vendor, architecture }: AdapterReport): string {
  return [engine, description, vendor, architecture, driverOf(description)].filter((part) => part !== "").join(", ");
}

/** WebGPU tells no driver. Vulkan does; where there is none, the driver is part of the system. */
function driverOf(description: string): string {
  return tried(() => `driver ${vulkanDevices().find(({ name }) => name === description)!.driver}`) ??
    tried(() => `system ${Deno.osRelease()}`) ?? "";
}

/** What `ask` returns; undefined where there is nothing to ask, or no permission to. */
function tried(ask: () => string): string | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

/** SHA-256 of a text. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function pathOf(card: string, folder: string): string {
  return join(folder, `${digest(card).slice(0, 16)}.json`);
}

/** What is known of a card; empty when nothing is, or the file is not whole: it is measured again then. */
export function readTable(card: string, folder: string = usualFolder()): Table {
  const path = pathOf(card, folder);
  const found = existsSync(path) ? readIfValid(path) : undefined;
  return found?.card === card ? found : { card, problems: {} };
}

function readIfValid(path: string): Table | undefined {
  try {
    return table.parse(readJsonObject(path));
  } catch {
    return undefined;
  }
}

/** What is known of every card that this user has measured. */
export function allTables(folder: string = usualFolder()): Table[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => name.endsWith(".json")).flatMap((name) => {
    return readIfValid(join(folder, name)) ?? [];
  });
}

/** Keeps a table. */
export async function writeTable(content: Table, folder: string = usualFolder()): Promise<void> {
  makeFolder(folder);
  await writeFileAtomic(pathOf(content.card, folder), `${JSON.stringify(content, null, 2)}\n`);
}
