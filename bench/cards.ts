/**
 * Public peak figures of cards, for bench/roofline.ts. As read on 2026-11-28:
 *
 * - H100 SXM: glennklockwood.com/garden/processors/h100 (rates and memory, after NVIDIA's whitepaper; 133.8 of f16); 33 TB/s of shared memory and
 *   227 KB per multiprocessor from notes.haroldbenoit.com, which is 132 multiprocessors x 32 banks x 4 bytes x 1.98 GHz.
 * - RTX 4090: waredb.com (rates with f32 sums, of f16 that of f32, memory, 2.52 GHz); shared memory by the same rule over 128 multiprocessors.
 * - RX 7900 XTX: guru3d.com review of the card and bloglaralemi.com; matrix instructions run at the packed f16 rate.
 * - M3 Max, 40 cores: radargit.com; f16 at the rate of f32 as hmc-tech.com has it for the M3. Matrix instructions run on the same
 *   lanes as all others.
 *
 * What no page gave is undefined.
 */
export interface Card {
  readonly name: string;
  /** 10^12 operations a second: products of f16 summed in f32 on matrix units, and of f32 on shader units. */
  readonly unitTflops: number;
  readonly exactTflops: number;
  /** 10^12 operations a second of f16 on shader units. */
  readonly packedTflops: number;
  /** 10^12 bytes a second of device memory, and of all workgroup memories together. */
  readonly deviceTbytes: number;
  readonly workgroupTbytes: number | undefined;
  /** Workgroup memory and 32-bit registers of a multiprocessor. */
  readonly multiprocessorBytes: number | undefined;
  readonly registers: number | undefined;
  /** Multiprocessors, and threads that one holds. */
  readonly multiprocessors: number | undefined;
  readonly threads: number | undefined;
  /** Workgroup memory that one workgroup may use through WebGPU: what the Vulkan and Metal drivers report. */
  readonly workgroupBytes: number;
}

const KIB = 1024;

/** Cards of bench/results. */
export const CARDS: readonly Card[] = [
  {
    name: "H100 SXM",
    unitTflops: 989,
    exactTflops: 67,
    packedTflops: 133.8,
    deviceTbytes: 3.35,
    workgroupTbytes: 33,
    multiprocessorBytes: 227 * KIB,
    registers: 65536,
    multiprocessors: 132,
    threads: 2048,
    workgroupBytes: 48 * KIB,
  },
  {
    name: "RTX 4090",
    unitTflops: 165,
    exactTflops: 82.6,
    packedTflops: 82.6,
    deviceTbytes: 1.008,
    workgroupTbytes: 128 * 128 * 2.52e-3,
    multiprocessorBytes: 100 * KIB,
    registers: 65536,
    multiprocessors: 128,
    threads: 1536,
    workgroupBytes: 48 * KIB,
  },
  {
    name: "RX 7900 XTX",
    unitTflops: 123,
    exactTflops: 61.4,
    packedTflops: 122.8,
    deviceTbytes: 0.96,
    workgroupTbytes: undefined,
    multiprocessorBytes: 128 * KIB,
    registers: undefined,
    multiprocessors: undefined,
    threads: undefined,
    workgroupBytes: 64 * KIB,
  },
  {
    name: "M3 Max",
    unitTflops: 16.4,
    exactTflops: 16.4,
    packedTflops: 16.4,
    deviceTbytes: 0.41,
    workgroupTbytes: undefined,
    multiprocessorBytes: undefined,
    registers: undefined,
    multiprocessors: undefined,
    threads: undefined,
    workgroupBytes: 32 * KIB,
  },
];
