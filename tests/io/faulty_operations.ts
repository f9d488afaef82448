/** File operations for tests: they keep a log, fail on demand, or stop for good as a killed process does. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileOperations } from "../../lib/io/file_operations.ts";
import type { FileOperations } from "../../lib/io/file_operations.ts";

export interface Fault {
  /** Number of the operation that goes wrong, from 1. */
  at: number;
  /** An error code for one failure, or "KILL" to make this and every later operation impossible. */
  kind: string;
}

export interface LoggedOperations extends FileOperations {
  /** "operation path" in order of execution; descriptors are shown as the path they were created with. */
  readonly log: string[];
}

/** The process died: nothing can run after it, clean-up included. */
export class Killed extends Error {}

export function faultyOperations(fault?: Fault): LoggedOperations {
  const log: string[] = [];
  const paths = new Map<number, string>();
  let dead = false;
  function step<T>(name: string, what: string, action: () => T, half?: () => void): T {
    if (dead) throw new Killed();
    log.push(`${name} ${what}`);
    if (log.length === fault?.at) {
      half?.();
      dead = fault.kind === "KILL";
      throw dead ? new Killed() : Object.assign(new Error("injected"), { code: fault.kind });
    }
    return action();
  }
  const real = fileOperations;
  return {
    log,
    create: (path) =>
      step("create", path, () => {
        const descriptor = real.create(path);
        paths.set(descriptor, path);
        return descriptor;
      }),
    // Short writes are legal, so the sink always meets them; a fault leaves a part of the bytes behind.
    write: (descriptor, bytes) =>
      step(
        "write",
        paths.get(descriptor)!,
        () => real.write(descriptor, bytes.subarray(0, 1 + bytes.length / 2)),
        () => void real.write(descriptor, bytes.subarray(0, bytes.length / 2)),
      ),
    sync: (descriptor) => step("sync", paths.get(descriptor)!, () => real.sync(descriptor)),
    // A killed process leaves no descriptor open, so closing always works here and is not counted.
    close: (descriptor) => real.close(descriptor),
    syncPath: (path) => step("syncPath", path, () => real.syncPath(path)),
    rename: (from, to) => step("rename", `${from} -> ${to}`, () => real.rename(from, to)),
    makeFolder: (path) => step("makeFolder", path, () => real.makeFolder(path)),
    remove: (path) => step("remove", path, () => real.remove(path)),
  };
}

/** Runs `body` with an empty folder that is removed afterwards. */
export async function withFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-test-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
