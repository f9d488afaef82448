/**
 * TensorBoard event files: TFRecord frames (length, masked CRC-32C of it, data, masked CRC-32C of the data), each an
 * `Event` protocol buffer. Fields used: wall_time 1 (double), step 2 (varint), file_version 3 (text), summary 5 {value
 * 1 {tag 1, simple_value 2 (float)}}, session_log 7 {status 1}.
 */
import { join } from "node:path";
import process from "node:process";
import { makeFolder } from "../../io/file_operations.ts";
import { RecordFile } from "../../io/record_file.ts";

// The Castagnoli polynomial, bits reversed.
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0x82f63b78 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli) of `bytes`. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** The form in which TFRecord stores a checksum, so that a checksum of data that holds checksums stays good. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Writes scalars to a file that TensorBoard reads while it grows. */
export class TensorBoardWriter implements Disposable {
  readonly #file: RecordFile;

  /**
   * Makes a file in `folder`. With `resumeStep`, TensorBoard is told to drop what earlier files of the folder say of
   * later steps.
   */
  constructor(folder: string, options: { readonly now?: number; readonly resumeStep?: number } = {}) {
    const now = options.now ?? Date.now();
    makeFolder(folder);
    const name = `events.out.tfevents.${Math.floor(now / 1000)}.cogtune.${process.pid}.${now % 1000}`;
    this.#file = new RecordFile(join(folder, name), { isNew: true });
    this.#write([...double(1, now / 1000), ...bytes(3, utf8("brain.Event:2"))]);
    if (options.resumeStep !== undefined) {
      const sessionStart = bytes(7, varint(1, 1));
      this.#write([...double(1, now / 1000), ...varint(2, options.resumeStep + 1), ...sessionStart]);
    }
  }

  /** Writes one value per tag for `step`. Throws UserError when the disk is full or fails. */
  scalars(step: number, values: Readonly<Record<string, number>>, now: number = Date.now()): void {
    const summary = Object.entries(values).flatMap(([tag, value]) =>
      bytes(1, [...bytes(1, utf8(tag)), ...float(2, value)])
    );
    this.#write([...double(1, now / 1000), ...varint(2, step), ...bytes(5, summary)]);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #write(event: readonly number[]): void {
    const frame = new Uint8Array(16 + event.length);
    const view = new DataView(frame.buffer);
    view.setBigUint64(0, BigInt(event.length), true);
    view.setUint32(8, maskedCrc(frame.subarray(0, 8)), true);
    frame.set(event, 12);
    view.setUint32(12 + event.length, maskedCrc(frame.subarray(12, 12 + event.length)), true);
    this.#file.append(frame);
  }
}

// A field starts with its number times 8 plus its wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.

function varintDigits(value: number): number[] {
  const digits: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) digits.push((value % 128) | 128);
  return [...digits, value];
}

function varint(field: number, value: number): number[] {
  return [field << 3, ...varintDigits(value)];
}

function double(field: number, value: number): number[] {
  return [field << 3 | 1, ...new Uint8Array(new Float64Array([value]).buffer)];
}

function float(field: number, value: number): number[] {
  return [field << 3 | 5, ...new Uint8Array(new Float32Array([value]).buffer)];
}

function bytes(field: number, content: ArrayLike<number>): number[] {
  return [field << 3 | 2, ...varintDigits(content.length), ...Array.from(content)];
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
