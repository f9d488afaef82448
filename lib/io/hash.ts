/** Hashes of files of any size. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers";

/** 4 MiB keeps the event loop responsive: one block is read and hashed in a few milliseconds. */
const blockBytes = 4 << 20;

/** SHA-256 of a file in lower-case hexadecimal, read in blocks so that size does not matter. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  const block = new Uint8Array(blockBytes);
  const descriptor = openSync(path, "r");
  try {
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
