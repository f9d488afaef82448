/**
 * Row operations wait for device memory. What tells their variants apart is how many bytes a card has under way at once (Little's
 * law): threads that a multiprocessor holds, or has, times what each loads before it waits.
 */
import { vectorsOf, WIDE_THREADS } from "../../kernels/norm/layer_wide.ts";
import { GROUP_ROWS } from "../../kernels/norm/rows.ts";
import { LANES } from "../../kernels/reduce/lanes.ts";
import { type Card, CARDS } from "../cards.ts";
import { BYTES, HEAD, type ModelShape } from "./load.ts";

/** A variant of a row operation at one shape. */
interface RowLoad {
  readonly kernel: string;
  readonly variant: string;
  /** Bytes of device memory: every operand once. */
  readonly device: number;
  /** Bytes that threads ask of L2. */
  readonly l2: number;
  /** Threads of the launch, and of a workgroup. */
  readonly threads: number;
  readonly workgroup: number;
  /** 32-bit registers per thread for values and sums. */
  readonly registers: number;
  /** Bytes that a thread loads before it waits. */
  readonly ahead: number;
}

/** A vector of four elements in memory and in registers. */
const VECTOR = { bytes: 4 * BYTES, registers: 4 };

function norms({ sequence, width }: ModelShape): RowLoad[] {
  const size = sequence * width * BYTES;
  const groups = Math.ceil(sequence / GROUP_ROWS);
  const vectors = vectorsOf(width);
  // Gamma, beta, shift and scale are f32; the gradient needs no beta and no shift.
  return ([["layer norm, modulated", 1, 4], ["layer norm backward, modulated", 2, 2]] as const).flatMap(
    ([kernel, operands, weights]): RowLoad[] => {
      const shared = groups * weights * width * 4;
      const device = (operands + 1) * size;
      const common = { kernel: `${kernel} ${sequence} x ${width}`, device };
      return [
        {
          ...common,
          variant: "octets",
          l2: device + operands * size + shared * (operands === 1 ? 1 : 2),
          threads: groups * LANES,
          workgroup: 64,
          // Origin, sum and squares of forward, two sums of backward, and what is loaded.
          registers: GROUP_ROWS * VECTOR.registers * (operands === 1 ? 3 : 2) +
            GROUP_ROWS * operands * VECTOR.registers,
          ahead: GROUP_ROWS * operands * VECTOR.bytes,
        },
        {
          ...common,
          variant: "wide",
          l2: device + shared,
          threads: groups * WIDE_THREADS,
          workgroup: WIDE_THREADS,
          registers: GROUP_ROWS * operands * vectors * VECTOR.registers,
          ahead: GROUP_ROWS * operands * vectors * VECTOR.bytes,
        },
      ];
    },
  );
}

function headNorms({ sequence, heads }: ModelShape): RowLoad[] {
  const size = sequence * heads * HEAD * BYTES;
  return ([["head norm and rotation", 1], ["head norm and rotation backward", 2]] as const).flatMap(
    ([kernel, operands]) =>
      (["rows", "heads"] as const).map((variant): RowLoad => {
        const device = (operands + 1) * size;
        const shares = variant === "rows" ? sequence : sequence * heads;
        // Angles and weights are f32: half a head of each angle, a head of each weight.
        const shared = shares * 4 * HEAD * (operands === 1 ? 3 : 2);
        return {
          kernel: `${kernel} ${sequence} x ${heads}`,
          variant,
          device,
          l2: device + shared,
          threads: shares * LANES,
          workgroup: 64,
          registers: (2 + 2 * operands + 2 + 2) * VECTOR.registers,
          ahead: 2 * operands * VECTOR.bytes,
        };
      }),
  );
}

/** Bytes under way on a multiprocessor. */
function underWay({ threads, workgroup, registers, ahead }: RowLoad, card: Card): number | undefined {
  const { registers: file, multiprocessors, threads: most } = card;
  if (file === undefined || multiprocessors === undefined || most === undefined) return undefined;
  const held = Math.min(most, Math.floor(file / (registers + 32) / workgroup) * workgroup);
  return Math.min(held, threads / multiprocessors) * ahead;
}

/** Bytes that have to be under way on a multiprocessor at a latency of a microsecond, for all of device memory's rate. */
function needed({ deviceTbytes, multiprocessors }: Card): number | undefined {
  return multiprocessors === undefined ? undefined : deviceTbytes * 1e6 / multiprocessors;
}

/** Rows of a table: kernel, variant, bytes, threads, registers, KiB under way of those needed, microseconds at device memory's rate. */
export function rowCells(shape: ModelShape): string[][] {
  return [...norms(shape), ...headNorms(shape)].map((load) => [
    load.kernel,
    load.variant,
    (load.device / 1e6).toFixed(0),
    (load.l2 / load.device).toFixed(1),
    (load.threads / 1000).toFixed(0),
    load.registers.toFixed(0),
    CARDS.slice(0, 2).map((card) => {
      const [has, needs] = [underWay(load, card), needed(card)].map((bytes) => ((bytes ?? NaN) / 1024).toFixed(0));
      return `${has} of ${needs}`;
    }).join(", "),
    ...CARDS.map(({ deviceTbytes }) => (load.device / deviceTbytes / 1e6).toFixed(0)),
  ]);
}

/** Heads of these columns. */
export const ROW_HEAD: readonly string[] = [
  "kernel",
  "variant",
  "MB device",
  "L2 over device",
  "thousand threads",
  "registers",
  "KiB under way of a multiprocessor, of those needed at 1 us (H100, 4090)",
  ...CARDS.map(({ name }) => `us, ${name}`),
];
