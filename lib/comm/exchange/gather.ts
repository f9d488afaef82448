/** Small values that ranks tell each other: losses and figures for the log, outcomes, settings to compare. */
import type { Communicator, ExchangeOptions } from "./communicator.ts";
import { SHARD_ELEMENTS } from "./arrays.ts";

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
  const own = new Uint8Array(LENGTH_BYTES + longest);
  new DataView(own.buffer).setUint32(0, text.length, true);
  own.set(text, LENGTH_BYTES);
  const parts = await gatherBytes(communicator, own, options);
  return parts.map((part) => {
    const length = new DataView(part.buffer, part.byteOffset).getUint32(0, true);
    return JSON.parse(new TextDecoder().decode(part.subarray(LENGTH_BYTES, LENGTH_BYTES + length))) as T;
  });
}

/** The numbers of all ranks, by rank, on every rank: float64, as many from each, in one exchange. */
export async function gatherNumbers(
  communicator: Communicator,
  own: readonly number[],
  options: ExchangeOptions = {},
): Promise<Float64Array[]> {
  const parts = await gatherBytes(communicator, new Uint8Array(Float64Array.from(own).buffer), options);
  return parts.map((part) => new Float64Array(part.buffer, part.byteOffset, own.length));
}

/** The bytes of all ranks, as many from each, perhaps with zeros behind them. */
async function gatherBytes(
  communicator: Communicator,
  own: Uint8Array,
  options: ExchangeOptions,
): Promise<Uint8Array<ArrayBuffer>[]> {
  // A whole number of shard units, so that rank r's shard is exactly its part.
  const part = Math.ceil(own.length / SHARD_ELEMENTS) * SHARD_ELEMENTS;
  const bytes = new Uint8Array(part * communicator.size);
  bytes.set(own, communicator.rank * part);
  await communicator.allGather(bytes, options);
  return Array.from({ length: communicator.size }, (_, rank) => bytes.subarray(rank * part, (rank + 1) * part));
}
