/** Builds safetensors files by hand, right or wrong, without the code under test. */
import { writeFileSync } from "node:fs";

/** The bytes of a file with this header text and these data; `length` replaces the true header length. */
export function fileBytes(header: string | Uint8Array, data: Uint8Array | number = 0, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const body = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + text.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(body, 8 + text.length);
  return bytes;
}

/** Header text of one tensor entry. */
export function entry(name: string, begin: number, end: number, dtype = "U8", shape = `[${end - begin}]`): string {
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

/** Writes a valid file of float32 tensors of one dimension. */
export function writeSimple(path: string, tensors: Record<string, number[]>): void {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, values]) => {
    const begin = end;
    end += 4 * values.length;
    return entry(name, begin, end, "F32", `[${values.length}]`);
  });
  const data = new Uint8Array(Float32Array.from(Object.values(tensors).flat()).buffer);
  writeFileSync(path, fileBytes(`{${entries.join(",")}}`, data));
}
