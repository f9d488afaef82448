/** Writes 8-bit RGB pictures as PNG, with the deflate and the CRC that the runtime brings. */
import { crc32 } from "node:zlib";

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const BIT_DEPTH = 8;
const COLOUR_TYPE_RGB = 2;

/** Length, type, data, and the CRC of type and data. */
function pngChunk(type: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set(new TextEncoder().encode(type), 4);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/**
 * Encodes RGB pixels (`height * width * 3` bytes, interleaved, rows top to bottom) as the bytes of a PNG file.
 *
 * @throws {RangeError} if the number of bytes does not fit the size.
 */
export async function encodePng(rgb: Uint8Array, width: number, height: number): Promise<Uint8Array<ArrayBuffer>> {
  if (width < 1 || height < 1 || rgb.length !== width * height * 3) {
    throw new RangeError(`Cannot encode a PNG as ${rgb.length} bytes are not an RGB picture of ${width}x${height}`);
  }
  const stride = width * 3;
  const raw = new Uint8Array((stride + 1) * height);
  for (let row = 0; row < height; row++) {
    // The leading byte of a row names its filter; 0 stores the pixels as they are.
    raw.set(rgb.subarray(row * stride, (row + 1) * stride), row * (stride + 1) + 1);
  }
  const compressed = await new Response(new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"))).bytes();
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([BIT_DEPTH, COLOUR_TYPE_RGB], 8);
  return await new Blob([
    SIGNATURE,
    pngChunk("IHDR", header),
    pngChunk("IDAT", compressed),
    pngChunk("IEND", new Uint8Array()),
  ]).bytes();
}
