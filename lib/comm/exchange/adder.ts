/** Element-wise sums in place: WebAssembly SIMD where the memory allows, a loop elsewhere. Both give the same bits. */
import { bf16ToF32, f32ToBf16 } from "../../io/safetensors/half.ts";
import { adderWasm } from "./adder_wasm.ts";
import type { SumType } from "./arrays.ts";

/** Sums of ranges of one memory. */
export interface Adder {
  /**
   * `into[i] += from[i]` over `bytes` bytes; offsets and count are bytes, multiples of the element. The sum is written
   * to `also` too, which may be `from`.
   */
  add(type: SumType, into: number, from: number, bytes: number, also?: number): void;
}

/** Bytes that the WebAssembly loops take at a turn. */
const TURN_BYTES = 64;
/** Elements that go through float32 at a time: both halves stay in the first-level cache. */
const BF16_BLOCK = 2048;

/** Adds arrays in a loop: `into[i] += from[i]`, bfloat16 in float32 rounded once to nearest even. */
export function addArrays(
  into: Float32Array | Uint16Array<ArrayBuffer>,
  from: Float32Array | Uint16Array<ArrayBuffer>,
): void {
  if (into.length !== from.length || into.constructor !== from.constructor) {
    throw new RangeError(
      `Cannot add ${from.constructor.name} of ${from.length} to ${into.constructor.name} of ${into.length}`,
    );
  }
  if (into instanceof Float32Array) {
    // The engine adds in float64 and rounds once: for a sum of two float32 that equals the float32 sum.
    for (let i = 0; i < into.length; i++) into[i] = into[i]! + from[i]!;
    return;
  }
  for (let at = 0; at < into.length; at += BF16_BLOCK) {
    const target = into.subarray(at, at + BF16_BLOCK);
    const sum = bf16ToF32(target);
    addArrays(sum, bf16ToF32(from.subarray(at, at + BF16_BLOCK) as Uint16Array<ArrayBuffer>));
    f32ToBf16(sum, target);
  }
}

/** Sums over an ordinary buffer: the slow twin of {@linkcode wasmAdder}. */
export function scriptAdder(buffer: ArrayBuffer): Adder {
  return {
    add(type, into, from, bytes, also = into) {
      if (type === "f32") {
        addArrays(new Float32Array(buffer, into, bytes / 4), new Float32Array(buffer, from, bytes / 4));
      } else addArrays(new Uint16Array(buffer, into, bytes / 2), new Uint16Array(buffer, from, bytes / 2));
      new Uint8Array(buffer).copyWithin(also, into, into + bytes);
    },
  };
}

/** A WebAssembly memory with 64-bit addresses, of `bytes` bytes: 16 GiB at most, the engine's limit. */
export function createWindow(bytes: number): WebAssembly.Memory {
  const pages = BigInt(Math.ceil(bytes / 65536));
  // Type declarations do not know 64-bit memories.
  return new WebAssembly.Memory(
    { initial: pages, maximum: pages, address: "i64" } as unknown as WebAssembly.MemoryDescriptor,
  );
}

type AddFunction = (into: bigint, from: bigint, also: bigint, bytes: bigint) => void;
let module: WebAssembly.Module | undefined;

/** Sums by SIMD inside a memory made by {@linkcode createWindow}; any offsets, any count. */
export function wasmAdder(memory: WebAssembly.Memory): Adder {
  module ??= new WebAssembly.Module(Uint8Array.fromBase64(adderWasm));
  const { exports } = new WebAssembly.Instance(module, { shared: { memory } });
  const add = { f32: exports.add_f32 as AddFunction, bf16: exports.add_bf16 as AddFunction };
  const tails = scriptAdder(memory.buffer as ArrayBuffer);
  return {
    add(type, into, from, bytes, also = into) {
      const tail = bytes % TURN_BYTES;
      const whole = bytes - tail;
      add[type](BigInt(into), BigInt(from), BigInt(also), BigInt(whole));
      if (tail > 0) tails.add(type, into + whole, from + whole, tail, also + whole);
    },
  };
}
