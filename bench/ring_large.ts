/**
 * Payloads beyond what a process can map for WebAssembly, on a machine that has not the memory for them: two ranks sum arrays
 * whose pages repeat a block of 256 MiB, every element of which is checked. With a second argument the arrays lie in shared
 * memory and repeat nothing, so they need twice their size.
 * Run: deno run -A bench/ring_large.ts 20480 [in place]
 */
import { withCommunicator } from "../lib/comm/connect.ts";
import { groupVariable } from "../lib/comm/launch/membership.ts";
import { launch } from "../lib/comm/launch/launcher.ts";
import { cString } from "../lib/comm/native/libc.ts";
import { regionShape } from "../lib/comm/shared_memory/region.ts";

const MEBIBYTE = 2 ** 20;
const BLOCK = 256 * MEBIBYTE;
const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/** An array of `bytes` bytes, every 256 MiB of which are the same memory. */
function repeatingArray(bytes: number): Float32Array<ArrayBuffer> {
  const { symbols } = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    ftruncate: { parameters: ["i32", "i64"], result: "i32" },
    mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  });
  const [readWrite, shared, privateReserve, fixed] = [3, 1, 0x4022, 0x10];
  const file = symbols.memfd_create(cString("repeating"), 0);
  symbols.ftruncate(file, BigInt(BLOCK));
  const start = BigInt(symbols.mmap(0n, BigInt(bytes), readWrite, privateReserve, -1, 0n));
  for (let at = 0; at < bytes; at += BLOCK) {
    symbols.mmap(start + BigInt(at), BigInt(BLOCK), readWrite, shared | fixed, file, 0n);
  }
  return new Float32Array(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(start)!, bytes));
}

/** Throws unless the array's elements are `factor` times those that two ranks put in. */
function check(data: Float32Array, factor: number): void {
  for (let i = 0; i < data.length; i++) {
    const expected = 3 * (i % 1000 + 1) * factor;
    if (data[i] !== expected) throw new Error(`element ${i} is ${data[i]}, expected ${expected}`);
  }
}

async function asRank(bytes: number, inPlace: boolean): Promise<void> {
  await withCommunicator(async (communicator) => {
    const { rank } = communicator;
    const data = inPlace ? communicator.allocate("f32", bytes / 4) : repeatingArray(bytes);
    const fresh = inPlace ? data : data.subarray(0, BLOCK / 4);
    for (let i = 0; i < fresh.length; i++) fresh[i] = (rank + 1) * (i % 1000 + 1);
    await communicator.barrier();
    const start = performance.now();
    await communicator.allReduce(data);
    const seconds = (performance.now() - start) / 1000;
    // Shards repeat the block side by side; each further pass over it doubles what both ranks have.
    check(fresh, inPlace ? 1 : 2 ** (bytes / 2 / BLOCK - 1));
    print(
      `${bytes / 2 ** 30} GiB: every element right, ${seconds.toFixed(1)} s, ${
        (bytes / seconds / 1e9).toFixed(2)
      } GB/s`,
    );
  });
}

if (import.meta.main) {
  const bytes = Number(Deno.args[0] ?? 20480) * MEBIBYTE;
  const inPlace = Deno.args.length > 1;
  if (Deno.env.get(groupVariable) !== undefined) await asRank(bytes, inPlace);
  else {
    const { code, cause } = await launch({
      module: new URL(import.meta.url),
      args: Deno.args,
      size: 2,
      shape: inPlace ? regionShape(2, undefined, bytes) : regionShape(2),
      onLine: ({ rank, text }) => print(`rank ${rank}: ${text}`),
    });
    if (cause !== undefined) print(cause);
    Deno.exit(code);
  }
}
