/** Groups of ranks inside one process: the same code as in several, and quick to start. */
import type { Communicator } from "../../../lib/comm/exchange/communicator.ts";
import { createRegion, regionShape } from "../../../lib/comm/shared_memory/region.ts";
import {
  joinSharedMemory,
  type SharedMemory,
  type SharedMemoryOptions,
} from "../../../lib/comm/shared_memory/shared_memory.ts";
import { createSingle } from "../../../lib/comm/exchange/single.ts";

/** Sizes of a small region: payloads beyond 64 KiB go through the staging area in several pieces. */
export const smallStaging = 65536;

/** Runs `body` as each of `size` ranks and returns what they return. */
export async function withRanks<T>(
  size: number,
  body: (communicator: SharedMemory) => Promise<T>,
  options: Partial<SharedMemoryOptions> = {},
): Promise<T[]> {
  const shape = regionShape(size, smallStaging, 2 ** 20);
  using region = createRegion(shape);
  const ranks = Array.from(
    { length: size },
    (_, rank) => joinSharedMemory({ path: region.path, shape, ...options, rank }),
  );
  return await Promise.all(ranks.map(body));
}

/** The same, with the communicator of a single process where `size` is 1. */
export async function withGroup<T>(size: number, body: (communicator: Communicator) => Promise<T>): Promise<T[]> {
  return size === 1 ? [await body(createSingle())] : await withRanks(size, body);
}
