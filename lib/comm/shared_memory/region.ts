/**
 * The memory that the ranks of one host share: an anonymous file (memfd) made by the launcher and opened by ranks
 * through /proc. It has no name, so nothing is left however processes end, and the size of /dev/shm does not bound it.
 *
 * Layout: a control block (see control.ts), then a slot per rank: its staging area, then its arena for arrays that are
 * exchanged where they lie.
 */
import { UserError } from "../../errors.ts";
import { createWindow } from "../exchange/adder.ts";
import { CONTROL_BYTES } from "./control.ts";
import { cString, libc } from "../native/libc.ts";

/** Sizes of a region; every one a multiple of the WebAssembly page, 64 KiB. */
export interface RegionShape {
  /** Ranks. */
  readonly size: number;
  /** Bytes of each rank's staging area, taken when the region is made. */
  readonly staging: number;
  /** Bytes of each rank's arena, taken as arrays are allocated. */
  readonly arena: number;
}

const PAGE = 65536;
/** Largest memory that the engine gives a WebAssembly module. */
const WINDOW_LIMIT = 16 * 2 ** 30;
/** 4 MiB to 64 MiB were equally fast at 2 ranks; a small area stays in the cache between filling and summing. */
const STAGING = 16 * 2 ** 20;
/** Gradients of a LoRA of rank 128 on the 5B model are half of this. */
const ARENA = 2 ** 30;

const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FIXED = 0x10;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
const MFD_CLOEXEC = 1;
const USER_ALONE = 0o600;

/**
 * The shape for `size` ranks. Arenas shrink where many ranks would pass the 16 GiB that a process can map; what does
 * not fit an arena is exchanged through the staging area.
 */
export function regionShape(size: number, staging = STAGING, arena = ARENA): RegionShape {
  const whole = (bytes: number) => Math.ceil(bytes / PAGE) * PAGE;
  const room = Math.floor((WINDOW_LIMIT - CONTROL_BYTES) / size / PAGE) * PAGE;
  const staged = Math.min(whole(staging), room);
  return { size, staging: staged, arena: Math.min(whole(arena), room - staged) };
}

/** Offset of a rank's slot: its staging area, followed by its arena. */
export function slotOffset(shape: RegionShape, rank: number): number {
  return CONTROL_BYTES + rank * (shape.staging + shape.arena);
}

function regionBytes(shape: RegionShape): number {
  return slotOffset(shape, shape.size);
}

/** The launcher's side of a region: it sees the control block only. */
export interface CreatedRegion extends Disposable {
  /** Where ranks open it. */
  readonly path: string;
  readonly shape: RegionShape;
  /** The control block. */
  readonly control: ArrayBuffer;
  readonly address: bigint;
}

/**
 * Makes a region and takes the memory of its staging areas.
 *
 * @throws {UserError} when the machine lacks the memory.
 */
export function createRegion(shape: RegionShape): CreatedRegion {
  const { memfd_create, fchmod, ftruncate, mmap, munmap, close } = libc();
  const file = memfd_create(cString("cogtune ranks"), MFD_CLOEXEC);
  if (file < 0) throw new Error("Cannot create shared memory: memfd_create failed");
  try {
    // Gradients and weights are nobody else's; an anonymous file begins open to all.
    if (fchmod(file, USER_ALONE) !== 0) throw new Error("Cannot keep shared memory to this user");
    if (ftruncate(file, BigInt(regionBytes(shape))) !== 0) {
      throw new Error(`Cannot size shared memory to ${regionBytes(shape)} bytes`);
    }
    reserve(file, 0, CONTROL_BYTES);
    for (let rank = 0; rank < shape.size; rank++) reserve(file, slotOffset(shape, rank), shape.staging);
    const address = BigInt(mmap(0n, BigInt(CONTROL_BYTES), PROT_READ_WRITE, MAP_SHARED, file, 0n));
    if (address === MAP_FAILED) throw new Error("Cannot map shared memory");
    return {
      path: `/proc/${Deno.pid}/fd/${file}`,
      shape,
      control: Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(address)!, CONTROL_BYTES),
      address,
      [Symbol.dispose]() {
        munmap(address, BigInt(CONTROL_BYTES));
        close(file);
      },
    };
  } catch (error) {
    close(file);
    throw error;
  }
}

/**
 * Takes the pages of a range, so that a lack of memory is an error here and not a fatal fault in the middle of a step.
 * An anonymous file has no limit of its own: past what is free the kernel would kill a process, so that is asked first.
 */
function reserve(file: number, offset: number, bytes: number): void {
  const { available } = Deno.systemMemoryInfo();
  const mebibytes = (count: number) => `${Math.ceil(count / 2 ** 20)} MiB`;
  const hint = "train on fewer GPUs, or close other programs";
  if (bytes > available * 0.9) {
    throw new UserError(
      `Sharing memory between ranks takes ${mebibytes(bytes)}, ${mebibytes(available)} are free`,
      hint,
    );
  }
  const code = libc().posix_fallocate(file, BigInt(offset), BigInt(bytes));
  if (code !== 0) throw new UserError(`Cannot reserve ${mebibytes(bytes)} of shared memory (error ${code})`, hint);
}

/** A rank's side of a region: all of it, inside a WebAssembly memory. */
export interface OpenRegion {
  readonly shape: RegionShape;
  readonly memory: WebAssembly.Memory;
  readonly buffer: ArrayBuffer;
  /** Address of the first byte. */
  readonly address: bigint;
  /** Takes the pages of a range, see {@linkcode createRegion}. */
  reserve(offset: number, bytes: number): void;
}

/**
 * Opens a region. Its pages replace those of a WebAssembly memory, so that SIMD runs on them in place. The memory never
 * grows and the mapping lives as long as the process, because views of it do.
 */
export function openRegion(path: string, shape: RegionShape): OpenRegion {
  const { open, mmap } = libc();
  const file = open(cString(path), O_RDWR | O_CLOEXEC, 0);
  if (file < 0) throw new Error(`Cannot open shared memory ${path}: the launcher is gone`);
  const memory = createWindow(regionBytes(shape));
  const buffer = memory.buffer as ArrayBuffer;
  const address = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(buffer))));
  const bytes = BigInt(regionBytes(shape));
  const mapped = BigInt(mmap(address, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, file, 0n));
  if (mapped !== address) throw new Error(`Cannot map ${bytes} bytes of shared memory`);
  return { shape, memory, buffer, address, reserve: (offset, count) => reserve(file, offset, count) };
}
