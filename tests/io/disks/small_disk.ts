/** Disks that are small enough to fill up: a file system in memory, where this process may mount one. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freeBytes } from "../../../lib/io/file_operations.ts";

async function run(tool: string, ...args: string[]): Promise<boolean> {
  try {
    return (await new Deno.Command(tool, { args, stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A full disk can be had without filling one where this process may mount a file system in memory. */
async function canMount(): Promise<boolean> {
  const folder = Deno.makeTempDirSync();
  const mounted = await run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder) && await run("umount", folder);
  rmSync(folder, { recursive: true });
  return mounted;
}

/** Whether {@linkcode withSmallDisk} can be used. */
export const mountable = await canMount();

/** Runs `body` with a folder `disk` of 1 MiB in `folder`. */
export async function withSmallDisk(folder: string, body: (disk: string) => void | Promise<void>): Promise<void> {
  const disk = join(folder, "disk");
  mkdirSync(disk);
  assert.ok(await run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk));
  try {
    await body(disk);
  } finally {
    await run("umount", disk);
  }
}

/** Takes all free space of a disk but `left` bytes; returns what gives it back. */
export function fill(disk: string, left = 0): () => void {
  const path = join(disk, "filler");
  writeFileSync(path, new Uint8Array(freeBytes(disk) - left));
  return () => rmSync(path);
}

/** Makes a disk read-only while `body` runs. */
export async function withReadOnly(disk: string, body: () => Promise<void>): Promise<void> {
  assert.ok(await run("mount", "-o", "remount,ro", disk));
  try {
    await body();
  } finally {
    await run("mount", "-o", "remount,rw", disk);
  }
}
