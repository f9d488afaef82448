/** The calls of the C library that shared memory, waiting for other processes and ending this one need. Linux only. */

const symbols = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  posix_fallocate: { parameters: ["i32", "i64", "i64"], result: "i32" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  getppid: { parameters: [], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  sigaction: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  _exit: { parameters: ["i32"], result: "void" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  // `syscall` is variadic; with integers alone its convention is that of a plain function on x86-64 and aarch64.
  futexWait: {
    name: "syscall",
    parameters: ["i64", "usize", "i32", "u32", "buffer", "usize", "u32"],
    result: "i64",
    nonblocking: true,
  },
  futexWake: { name: "syscall", parameters: ["i64", "usize", "i32", "u32"], result: "i64" },
} as const;

/** Functions of the C library. */
export type Libc = Deno.DynamicLibrary<typeof symbols>["symbols"];

let loaded: Libc | undefined;

/** Loads the C library; needs `--allow-ffi`. Throws Error on other systems than Linux. */
export function libc(): Libc {
  if (Deno.build.os !== "linux") {
    throw new Error(`Cannot share memory between processes on ${Deno.build.os}: several GPUs need Linux`);
  }
  return loaded ??= Deno.dlopen("libc.so.6", symbols).symbols;
}

/** A string as C reads it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

const SYS_FUTEX = Deno.build.arch === "x86_64" ? 202n : 98n;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;

/**
 * A `timespec` for each length of sleep, kept for ever: the thread that sleeps reads it when it runs, and nothing
 * else would keep it from being collected until then.
 */
const timeouts = new Map<number, BigInt64Array<ArrayBuffer>>();

function timeoutOf(milliseconds: number): BigInt64Array<ArrayBuffer> {
  const known = timeouts.get(milliseconds);
  if (known !== undefined) return known;
  const timeout = new BigInt64Array([
    BigInt(Math.floor(milliseconds / 1000)),
    BigInt(Math.round((milliseconds % 1000) * 1e6)),
  ]);
  timeouts.set(milliseconds, timeout);
  return timeout;
}

/**
 * Sleeps while the 32-bit word at `address` equals `value`, for `milliseconds` at most. The sleep is on Deno's thread
 * pool, so timers and signal handlers of this thread keep running.
 */
export async function futexWait(address: bigint, value: number, milliseconds: number): Promise<void> {
  await libc().futexWait(SYS_FUTEX, address, FUTEX_WAIT, value >>> 0, timeoutOf(milliseconds), 0n, 0);
}

/** Wakes everyone who sleeps on the word at `address`. */
export function futexWake(address: bigint): void {
  libc().futexWake(SYS_FUTEX, address, FUTEX_WAKE, 0x7fffffff);
}

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9n;

/** Has the kernel kill this process when the thread that started it ends, however it ends. */
export function dieWithParent(): void {
  libc().prctl(PR_SET_PDEATHSIG, SIGKILL, 0n, 0n, 0n);
}

const SIGHUP = 1;
const SIG_IGN = 1n;

/**
 * Whether this process goes on when its terminal is closed, as `nohup` has it: a handler would undo that. True where
 * native code is not allowed and nobody can tell.
 */
export function ignoresHangup(): boolean {
  try {
    if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return true;
    // A struct sigaction begins with the handler; the rest is less than 200 bytes.
    const action = new BigUint64Array(32);
    return libc().sigaction(SIGHUP, null, action) !== 0 || action[0] === SIG_IGN;
  } catch {
    // Another system, or another C library.
    return true;
  }
}

/**
 * Ends the process without the exit handlers of its libraries: those of a graphics driver can crash, and a run that has
 * saved everything would count as failed. Where native code is not allowed, it ends as `Deno.exit` does.
 */
export function endProcess(code: number): never {
  try {
    if (Deno.permissions.querySync({ name: "ffi" }).state === "granted") libc()._exit(code);
  } catch {
    // Another system, or another C library.
  }
  Deno.exit(code);
}
