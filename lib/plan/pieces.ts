/**
 * Tensors that a device can't hold in one buffer, or bind as one range, are cut into pieces of consecutive bytes.
 * Launches stay what they were: a kernel chooses among the pieces where it loads and stores, so the arithmetic and its
 * order, and with them the bits, are those of the undivided tensor.
 */
import { type Launch, stepBytes } from "../../kernels/core/kernel.ts";
import type { RecordingLimits } from "./limits.ts";
import { align, ALIGNMENT, type Tensor } from "./tensor.ts";

/** Consecutive bytes of a tensor: they lie `offset` bytes into piece `piece` of its owner. */
export interface PieceRange {
  readonly piece: number;
  readonly offset: number;
  readonly bytes: number;
}

function alignDown(bytes: number): number {
  return Math.floor(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Bytes of every piece but the last: what a binding holds, or a little less so that pieces fill a buffer. */
function pieceBytes({ chunkBytes, bindingBytes }: RecordingLimits): number {
  return alignDown(chunkBytes / Math.ceil(chunkBytes / alignDown(bindingBytes)));
}

/**
 * Bytes of the pieces in which an owner is stored, each inside one buffer: a single one unless it exceeds the largest
 * buffer.
 */
export function storedPieces(owner: Tensor, limits: RecordingLimits): number[] {
  const total = align(owner.bytes);
  if (total <= limits.chunkBytes) return [total];
  const size = pieceBytes(limits);
  return Array.from({ length: Math.ceil(total / size) }, (_, i) => Math.min(size, total - i * size));
}

/** The ranges, each bound at once, that make up `bytes` bytes of a tensor from byte `from` on. */
export function pieceRanges(
  { owner, byteOffset, bytes: all }: Tensor,
  limits: RecordingLimits,
  from = 0,
  bytes: number = all - from,
): PieceRange[] {
  const stored = align(owner.bytes) <= limits.chunkBytes ? Infinity : pieceBytes(limits);
  const end = byteOffset + from + bytes;
  const ranges: PieceRange[] = [];
  for (let at = byteOffset + from; at < end;) {
    const piece = Math.floor(at / stored);
    const offset = piece === 0 ? at : at - piece * stored;
    const length = Math.min(end - at, alignDown(limits.bindingBytes), stored - offset);
    ranges.push({ piece, offset, bytes: length });
    at += length;
  }
  return ranges;
}

/**
 * What a device runs for a launch that binds `tensors`: the launch itself unless one of them takes several bindings.
 *
 * @throws {RangeError} when the device does not bind that many.
 */
export function divideLaunch(launch: Launch, tensors: readonly Tensor[], limits: RecordingLimits): Launch {
  const { kernel } = launch;
  const ranges = tensors.map((tensor) => pieceRanges(tensor, limits));
  if (ranges.every(({ length }) => length === 1)) return launch;
  const pieces = ranges.map(({ length }) => length);
  const count = pieces.reduce((sum, length) => sum + length, 0);
  if (count > limits.bindings) {
    throw new RangeError(
      `Cannot launch ${kernel.key}: with at most ${limits.bindingBytes} bytes in a binding its tensors take ${count}, and this ` +
        `device has ${limits.bindings}: ${tensors.map(({ name, shape }) => `"${name}" [${shape}]`).join(", ")}`,
    );
  }
  const starts = ranges.flatMap((range, i) => {
    let sum = 0;
    return range.slice(0, -1).map(({ bytes }) => (sum += bytes) / stepBytes(kernel.buffers[i]!.dtype));
  });
  return { ...launch, kernel: kernel.divide(pieces), params: [...launch.params, ...starts] };
}
