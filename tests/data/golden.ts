/** Reads golden files: a safetensors reader of its own, so that data tests depend on data only. */
import { referenceCases, referencePath } from "../reference.ts";

/** One tensor as its raw bytes. */
export interface GoldenTensor {
  dtype: string;
  /** As long as the tests that read the file expect. */
  shape: [number, number, number, ...number[]];
  bytes: Uint8Array<ArrayBuffer>;
}

/** All tensors of a file (8-byte header length, JSON header, data). */
export async function readGolden(name: string): Promise<Map<string, GoldenTensor>> {
  const file = await Deno.readFile(referencePath(name));
  const headerBytes = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)));
  delete header.__metadata__;
  const entries = Object.entries(
    header as Record<string, { dtype: string; shape: GoldenTensor["shape"]; data_offsets: [number, number] }>,
  );
  return new Map(entries.map(([key, { dtype, shape, data_offsets: [from, to] }]) => {
    return [key, { dtype, shape, bytes: file.slice(8 + headerBytes + from, 8 + headerBytes + to) }];
  }));
}

/** Clips as other decoders read them; a set need not have any. */
export const DECODED = "data/clip-decode.safetensors";

/** Tensors of {@linkcode DECODED} whose name ends so. */
export function decodedClips(ending: string): string[] {
  return referenceCases.get(DECODED)?.tensors.filter((name) => name.endsWith(ending)) ?? [];
}

/** Mean and largest absolute difference. */
export function difference(a: ArrayLike<number>, b: ArrayLike<number>): { mean: number; max: number } {
  if (a.length !== b.length) throw new RangeError(`${a.length} and ${b.length} values`);
  let sum = 0, max = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    sum += d;
    max = Math.max(max, d);
  }
  return { mean: sum / a.length, max };
}
