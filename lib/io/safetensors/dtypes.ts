/**
 * Element types of the safetensors format and their size in bits, in the order in which the reference library compares
 * them: files list tensors from the end of this table to its start, which keeps wide elements aligned.
 */
export const dtypeBits = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** Name of an element type as a safetensors header spells it. */
export type Dtype = keyof typeof dtypeBits;

const order = new Map(Object.keys(dtypeBits).map((dtype, index) => [dtype, index]));

/** Whether `name` is an element type of the format. */
export function isDtype(name: string): name is Dtype {
  return order.has(name);
}

/** Negative when tensors of `a` come before tensors of `b` in a file. */
export function compareDtypes(a: Dtype, b: Dtype): number {
  return order.get(b)! - order.get(a)!;
}

/** Bytes of a tensor, or undefined when the product exceeds 2^53 - 1 or is no whole number of bytes. */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  // Doubles would round a huge product silently; shapes are short, so exact arithmetic costs nothing that matters.
  let elements = 1;
  for (const size of shape) {
    const product = elements * size;
    if (!Number.isSafeInteger(product)) return exactBytes(dtype, shape);
    elements = product;
  }
  const bits = elements * dtypeBits[dtype];
  if (!Number.isSafeInteger(bits)) return exactBytes(dtype, shape);
  return bits % 8 === 0 ? bits / 8 : undefined;
}

/** The same by BigInt: a later factor 0 makes even an overflowing product an empty tensor. */
function exactBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  const bits = shape.reduce((product, size) => product * BigInt(size), BigInt(dtypeBits[dtype]));
  if (bits % 8n !== 0n || bits / 8n > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return Number(bits / 8n);
}
