/**
 * Conversions between the storage types of tensors and float32.
 *
 * Narrowing rounds to nearest, ties to even, overflows to infinity and keeps NaN a NaN; widening is exact.
 * Every engine Deno runs on is little-endian, as are safetensors and GPU buffers, so bytes and typed arrays share
 * memory.
 */

import type { Dtype } from "./dtypes.ts";

/** How the elements of a tensor are stored on disk and in GPU memory. */
export type StorageType = "f32" | "f16" | "bf16";

/** Bytes of one element of each storage type. */
export const storageBytes: Readonly<Record<StorageType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** Element types that can be read as float32: those that tensors are kept in, and those that only files have. */
export type FloatType = StorageType | "f64" | "f8_e4m3" | "f8_e5m2";

const FLOAT_TYPES: Readonly<Partial<Record<Dtype, FloatType>>> = {
  F64: "f64",
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F8_E4M3: "f8_e4m3",
  F8_E5M2: "f8_e5m2",
};

/** What messages say is possible. */
export const FLOAT_DTYPES: string = "F32, F16, BF16, F64, F8_E4M3 or F8_E5M2";

/** The type to decode tensors of a file with; undefined for integers and for floats without a decoder. */
export function floatType(dtype: Dtype): FloatType | undefined {
  return FLOAT_TYPES[dtype];
}

/** Bytes of one element of any of them. */
export function floatBytes(type: FloatType): number {
  return type === "f64" ? 8 : type === "f8_e4m3" || type === "f8_e5m2" ? 1 : storageBytes[type];
}

/** How tensors of a file are kept when nobody says otherwise: as they are, 8 bits as bf16, which holds all of them. */
export function storageOf(dtype: Dtype): StorageType {
  const type = floatType(dtype);
  if (type === "f32" || type === "f16" || type === "bf16") return type;
  return type === "f64" || type === undefined ? "f32" : "bf16";
}

// A table lookup widens 8 million values in 10 ms; converting through Float16Array takes 30 ms.
let f16Table: Float32Array<ArrayBuffer> | undefined;

/** Widens IEEE 754 binary16 bit patterns, exactly. `out` has at least as many elements as `bits`. */
export function f16ToF32(
  bits: Uint16Array,
  out: Float32Array = new Float32Array(bits.length),
): Float32Array {
  checkLength("f16ToF32", bits.length, out.length);
  f16Table ??= new Float32Array(new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
  const table = f16Table;
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]!]!;
  return out;
}

/**
 * The values of an 8-bit format (OCP 8-bit floating point, revision 1.0): sign, exponent, `fraction` bits. e4m3 has no
 * infinity, and NaN only where all bits but the sign are one; e5m2 is the upper half of binary16.
 */
function f8Table(type: "f8_e4m3" | "f8_e5m2"): Float32Array {
  const [fraction, bias] = type === "f8_e4m3" ? [3, 7] : [2, 15];
  return Float32Array.from({ length: 256 }, (_, bits) => {
    const exponent = (bits & 127) >> fraction;
    const part = (bits & ((1 << fraction) - 1)) / (1 << fraction);
    const sign = bits < 128 ? 1 : -1;
    if (type === "f8_e4m3" && (bits & 127) === 127) return NaN;
    if (type === "f8_e5m2" && exponent === 31) return part === 0 ? sign * Infinity : NaN;
    return sign * (exponent === 0 ? part * 2 ** (1 - bias) : (1 + part) * 2 ** (exponent - bias));
  });
}

const f8Tables = { f8_e4m3: f8Table("f8_e4m3"), f8_e5m2: f8Table("f8_e5m2") } as const;

/** Rounds to IEEE 754 binary16 bit patterns; values from 65520 up become infinity. */
export function f32ToF16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  checkLength("f32ToF16", values.length, out.length);
  new Float16Array(out.buffer, out.byteOffset, out.length).set(values);
  return out;
}

/** Widens bfloat16 bit patterns, exactly: they are the upper half of the float32 pattern. */
export function bf16ToF32(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  checkLength("bf16ToF32", bits.length, out.length);
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return out;
}

/** Rounds to bfloat16 bit patterns. A NaN keeps its sign and upper payload and is made quiet. */
export function f32ToBf16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  checkLength("f32ToBf16", values.length, out.length);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    // Adding half a unit, less one when the kept part is even, rounds ties to even; a carry out of the largest
    // finite value lands on infinity. A NaN would carry into infinity or zero, so it is cut instead.
    out[i] = (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/**
 * Decodes the little-endian bytes of a tensor to float32; float64 is rounded to nearest even.
 * Aligned float32 bytes are returned as a view of the same memory, everything else as a fresh array.
 *
 * @throws {RangeError} when the byte length is no multiple of the element size.
 */
export function decodeF32(bytes: Uint8Array<ArrayBuffer>, type: FloatType): Float32Array<ArrayBuffer> {
  const size = floatBytes(type);
  if (bytes.byteLength % size !== 0) {
    throw new RangeError(`Cannot decode ${bytes.byteLength} bytes as ${type}: an element has ${size} bytes`);
  }
  if (type === "f8_e4m3" || type === "f8_e5m2") {
    const table = f8Tables[type];
    const values = new Float32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) values[i] = table[bytes[i]!]!;
    return values;
  }
  // A constructed copy: `slice` of a Node Buffer would share the unaligned memory.
  const { buffer, byteOffset, length } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  const count = length / size;
  if (type === "f32") return new Float32Array(buffer, byteOffset, count);
  if (type === "f64") return new Float32Array(new Float64Array(buffer, byteOffset, count));
  const out = new Float32Array(count);
  const bits = new Uint16Array(buffer, byteOffset, count);
  if (type === "f16") f16ToF32(bits, out);
  else bf16ToF32(bits, out);
  return out;
}

/** Encodes float32 values as the little-endian bytes of `type`. Float32 is returned as a view of the same memory. */
export function encodeF32(values: Float32Array<ArrayBuffer>, type: StorageType): Uint8Array<ArrayBuffer> {
  if (type === "f32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint16Array(values.length);
  if (type === "f16") f32ToF16(values, bits);
  else f32ToBf16(values, bits);
  return new Uint8Array(bits.buffer);
}

function checkLength(what: string, input: number, output: number): void {
  if (output < input) throw new RangeError(`Cannot ${what} ${input} values into an array of ${output}`);
}
