/** Small values that ranks tell each other: figures for the log, parts of a manifest, hashes to compare. */
import { UserError } from "../errors.ts";
import type { Communicator, ExchangeOptions } from "./communicator.ts";
import { SHARD_ELEMENTS } from "./data.ts";

/** Bytes of the length in front of each rank's text. */
const LENGTH_BYTES = 4;

/** The JSON values of all ranks, by rank, on every rank. */
export async function gatherValues<T>(
  communicator: Communicator,
  value: T,
  options: ExchangeOptions = {},
): Promise<T[]> {
  const text = new TextEncoder().encode(JSON.stringify(value));
  const longest = await communicator.agree(text.length, options);
  // A whole number of shard units, so that rank r's shard is exactly its part.
  const part = Math.ceil((LENGTH_BYTES + longest) / SHARD_ELEMENTS) * SHARD_ELEMENTS;
  const bytes = new Uint8Array(part * communicator.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(communicator.rank * part, text.length, true);
  bytes.set(text, communicator.rank * part + LENGTH_BYTES);
  await communicator.allGather(bytes, options);
  return Array.from({ length: communicator.size }, (_, rank) => {
    const begin = rank * part + LENGTH_BYTES;
    const end = begin + view.getUint32(rank * part, true);
    return JSON.parse(new TextDecoder().decode(bytes.subarray(begin, end))) as T;
  });
}

/**
 * Makes sure that all ranks have the same `value` of `what` (a config, a hash of a dataset), which ranks on several hosts need
 * not have.
 *
 * @throws {UserError} on every rank, naming the ranks that differ from rank 0.
 */
export async function requireEqual(communicator: Communicator, what: string, value: string): Promise<void> {
  const values = await gatherValues(communicator, value);
  const different = values.flatMap((other, rank) => other === values[0] ? [] : [`rank ${rank} has ${other}`]);
  if (different.length === 0) return;
  throw new UserError(
    `The ranks differ in ${what}: rank 0 has ${values[0]}, ${different.join(", ")}`,
    "start all ranks with the same program, config and data",
  );
}
