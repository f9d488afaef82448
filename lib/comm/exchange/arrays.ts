/** What ranks exchange: typed arrays, and which part of one belongs to which rank. */

/** float32; bfloat16 as bit patterns; bytes, which can be copied but not summed. */
export type Data = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** Names of the element types of {@linkcode Data}. */
export type DataType = "f32" | "bf16" | "u8";

/** Element types that can be summed. */
export type SumType = "f32" | "bf16";

/** The typed array of each element type. */
export interface DataOf {
  f32: Float32Array<ArrayBuffer>;
  bf16: Uint16Array<ArrayBuffer>;
  u8: Uint8Array<ArrayBuffer>;
}

/** Bytes of one element. */
export const elementBytes: Readonly<Record<DataType, number>> = { f32: 4, bf16: 2, u8: 1 };

/**
 * Shards begin at multiples of this many elements. In bfloat16 and in float32 that is a multiple of 256 bytes, which
 * GPUs want of the offset of a binding.
 */
export const SHARD_ELEMENTS = 128;

/** A range of elements; `end` is exclusive. */
export interface ElementRange {
  readonly begin: number;
  readonly end: number;
}

/** The element type of an array. Throws TypeError for arrays of other types. */
export function dataType(data: Data): DataType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "bf16";
  if (data instanceof Uint8Array) return "u8";
  throw new TypeError(
    `Cannot exchange ${
      Object.prototype.toString.call(data)
    }: expected Float32Array, Uint16Array (bfloat16) or Uint8Array`,
  );
}

/** The element type of an array to be summed. Throws TypeError for bytes. */
export function sumType(data: Data): SumType {
  const type = dataType(data);
  if (type === "u8") throw new TypeError("Cannot sum Uint8Array: expected Float32Array or Uint16Array (bfloat16)");
  return type;
}

/** The bytes of an array, sharing its memory. */
export function bytesOfData(data: Data): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A typed array over `buffer`. */
export function viewData<T extends DataType>(type: T, buffer: ArrayBuffer, offset: number, length: number): DataOf[T] {
  const views: DataOf = {
    get f32() {
      return new Float32Array(buffer, offset, length);
    },
    get bf16() {
      return new Uint16Array(buffer, offset, length);
    },
    get u8() {
      return new Uint8Array(buffer, offset, length);
    },
  };
  return views[type];
}

/**
 * The elements of an array of `length` that belong to `rank` of `size`: equal shares, rounded up to
 * {@linkcode SHARD_ELEMENTS}, so that the last ranks may get less or nothing.
 */
export function shardOf(length: number, rank: number, size: number): ElementRange {
  const share = Math.ceil(length / size / SHARD_ELEMENTS) * SHARD_ELEMENTS;
  return { begin: Math.min(length, rank * share), end: Math.min(length, (rank + 1) * share) };
}
