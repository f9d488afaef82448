/** Hashes of files of any size. */
import { createHash, type Hash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers";

/** 4 MiB keeps the event loop responsive: one block is read and hashed in a few milliseconds. */
const blockBytes = 4 << 20;

/** What the bytes of a file must hash to: `sha256` of the content, or the SHA-1 by which git names it (`git`). */
export interface Checksum {
  readonly algorithm: "sha256" | "git";
  /** Lower-case hexadecimal. */
  readonly value: string;
}

/** An empty hash for a file of `size` bytes. */
export function startHash(algorithm: Checksum["algorithm"], size: number): Hash {
  return algorithm === "git" ? createHash("sha1").update(`blob ${size}\0`) : createHash("sha256");
}

/** SHA-256 of a file in lower-case hexadecimal. */
export function sha256File(path: string): Promise<string> {
  return hashFile(path, "sha256");
}

/** Hash of a file in lower-case hexadecimal, read in blocks so that size does not matter. */
export async function hashFile(path: string, algorithm: Checksum["algorithm"]): Promise<string> {
  const block = new Uint8Array(blockBytes);
  const descriptor = openSync(path, "r");
  try {
    const hash = startHash(algorithm, fstatSync(descriptor).size);
    for (;;) {
      const count = readSync(descriptor, block);
      if (count === 0) return hash.digest("hex");
      hash.update(block.subarray(0, count));
      await nextTurn();
    }
  } finally {
    closeSync(descriptor);
  }
}

/** Lets timers and sockets run between blocks of synchronous file work. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
