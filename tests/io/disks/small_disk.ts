/** Disks that are small enough to fill up: a file system in memory, where this process may mount one. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freeBytes } from "../../../lib/io/file_operations.ts";
import { HUNG } from "../../patience.ts";

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
  const mounted = await run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder);
  if (mounted) await unmount(folder);
  rmSync(folder, { recursive: true });
  return mounted;
}

/** Whether {@linkcode withSmallDisk} can be used. */
export const mountable = await canMount();

/**
 * Takes a disk away again. A program that another thread starts holds copies of all files that are open here until it
 * runs: with 1,200 starts a second, 12 of 16,807 disks were busy for that alone. What is open for longer is a leak.
 */
async function unmount(disk: string): Promise<void> {
  if (await repeated("umount", disk)) return;
  await run("umount", "--lazy", disk);
  throw new Error(`${disk} was still in use ${HUNG / 1000} s after its last use`);
}

/** Runs a tool until it succeeds, unless it never does. */
async function repeated(tool: string, ...args: string[]): Promise<boolean> {
  const end = performance.now() + HUNG;
  while (!await run(tool, ...args)) {
    if (performance.now() > end) return false;
    await delay(20);
  }
  return true;
}

/** Runs `body` with a folder `disk` of 1 MiB in `folder`. */
export async function withSmallDisk(folder: string, body: (disk: string) => void | Promise<void>): Promise<void> {
  const disk = join(folder, "disk");
  mkdirSync(disk);
  assert.ok(await run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk));
  // What the body throws is reported, too, when the disk can't be taken away.
  await using _mounted = { [Symbol.asyncDispose]: () => unmount(disk) };
  await body(disk);
}

/** Takes all free space of a disk but `left` bytes; returns what gives it back. */
export function fill(disk: string, left = 0): () => void {
  const path = join(disk, "filler");
  writeFileSync(path, new Uint8Array(freeBytes(disk) - left));
  return () => rmSync(path);
}

/** Makes a disk read-only while `body` runs. */
export async function withReadOnly(disk: string, body: () => Promise<void>): Promise<void> {
  assert.ok(await repeated("mount", "-o", "remount,ro", disk));
  try {
    await body();
  } finally {
    await run("mount", "-o", "remount,rw", disk);
  }
}
