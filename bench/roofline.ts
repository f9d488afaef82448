/**
 * What bounds the kernels on matrix units, computed and not measured: `deno run -A bench/roofline.ts` prints for the shapes of every
 * released model the bytes moved per level, the registers and workgroup memory of a workgroup, and the rate that each card allows.
 *
 * Device memory is charged each operand once. L2 is charged what workgroups read of their operands; as no vendor publishes its rate, the
 * table says which rate the bound asks of it. Workgroup memory is charged stores, loads of matrices, and scores and weights.
 * Conversions to f16, exponentials, barriers and empty issue slots come on top: a kernel can only be slower.
 */
import {
  ATTENTION_SIZES,
  attentionBytes,
  type AttentionSize,
  attentionTile,
  type Kept,
} from "../kernels/attention/unit_tile.ts";
import { KEY_VALUE_UNITS, QUERY_UNITS } from "../kernels/attention/backward_units.ts";
import { FORWARD_UNITS } from "../kernels/attention/forward_units.ts";
import { plainTarget, type Target } from "../kernels/core/kernel.ts";
import { UNIT_SIZES, unitBytes, type UnitSize, unitTile } from "../kernels/matrix/unit_tile.ts";
import { innerDim, latentSize, RELEASED } from "../lib/models/transformer/config.ts";
import { tokenCount, tokenGrid } from "../lib/models/transformer/positions.ts";
import { type Card, CARDS } from "./cards.ts";

/** One kernel at one shape. Bytes are of the whole launch. */
interface Load {
  readonly problem: string;
  readonly variant: string;
  readonly flops: number;
  readonly device: number;
  readonly l2: number;
  readonly workgroup: number;
  /** 32-bit registers per thread for sums, matrices and fetched operands; addresses and temporaries come on top. */
  readonly registers: number;
  readonly threads: number;
  /** Workgroup memory of one workgroup. */
  readonly memory: number;
}

/** NVIDIA's unit and subgroup; the others differ in how many instructions make a tile, hardly in bytes. */
const card: Target = {
  ...plainTarget(32),
  workgroupBytes: 64 * 1024,
  matrix: [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }],
  f16: true,
  mixed: true,
};

/** Bytes of an operand: bf16. */
const BYTES = 2;

/** C[m,n] over k with bf16 operands and result. */
function product(
  problem: string,
  [m, n, k]: readonly number[],
  { name, size }: { name: string; size: UnitSize },
): Load {
  const { down, across, rows, columns, depth } = size;
  const tile = unitTile(card, size)!;
  const tiles = Math.ceil(m! / rows) * Math.ceil(n! / columns);
  const steps = Math.ceil(k! / depth);
  const threads = 32 * down * across;
  const loaded = down * across * (rows / down + columns / across) * depth;
  return {
    problem,
    variant: name,
    flops: 2 * m! * n! * k!,
    device: BYTES * (m! * k! + n! * k! + m! * n!),
    l2: tiles * BYTES * (steps * (rows + columns) * depth + rows * columns),
    // Staged and loaded as f16; sums are written and read once as f32.
    workgroup: tiles * (steps * 2 * ((rows + columns) * depth + loaded) + 8 * rows * columns),
    registers: rows * columns / threads + (rows / down / 16 + 1) * 4 + (rows + columns) * depth * BYTES / 4 / threads,
    threads,
    memory: unitBytes(tile),
  };
}

interface Pass {
  readonly name: string;
  readonly kept: Kept;
  /** Products of whole matrices, operands of a row that a workgroup owns, and sums it keeps. */
  readonly products: number;
  readonly own: number;
  readonly sums: number;
}

const PASSES: readonly Pass[] = [
  { name: "attention forward", kept: FORWARD_UNITS.kept, products: 2, own: 1, sums: 1 },
  { name: "attention dQ", kept: QUERY_UNITS.kept, products: 3, own: 2, sums: 1 },
  { name: "attention dK, dV", kept: KEY_VALUE_UNITS.kept, products: 4, own: 2, sums: 2 },
];

const HEAD = 64;

/** Attention of `heads` over `sequence` rows in bf16. */
function attention(
  { name, kept, products, own, sums }: Pass,
  heads: number,
  sequence: number,
  { name: variant, size }: { name: string; size: AttentionSize },
): Load {
  const { subgroups, rows, step } = size;
  const groups = heads * Math.ceil(sequence / rows);
  const steps = Math.ceil(sequence / step);
  const threads = 32 * subgroups;
  const { scores, weights } = kept;
  const staged = 2 * step * HEAD * 2;
  // Every subgroup loads the staged rows once per product, and its rows of the weights once per sum.
  const matrices = 2 * (products * subgroups * step * HEAD + weights * rows * step);
  const tile = attentionTile(card, size, HEAD, kept);
  return {
    problem: name,
    variant,
    flops: 2 * products * heads * sequence * sequence * HEAD,
    device: BYTES * heads * sequence * HEAD * (own + 2 + sums),
    l2: groups * BYTES * HEAD * (steps * 2 * step + (own + sums) * rows),
    workgroup: groups * steps * (staged + matrices + 8 * scores * rows * step + 2 * weights * rows * step),
    registers: (sums * rows * HEAD + scores * rows * step) / threads + own * rows * HEAD / 2 / threads +
      2 * step * HEAD * BYTES / 4 / threads,
    threads,
    memory: tile === undefined ? Infinity : attentionBytes(tile, kept),
  };
}

/** Clips that the models were released for. */
const CLIPS = { "2b": [49, 480, 720], "5b": [49, 480, 720], "1.5-5b": [81, 768, 1360] } as const;

/** Rank of the presets' adapters. */
const RANK = 128;

/** Kernels of one model; image-to-video models have the same shapes but for the first layer. */
function loadsOf(model: keyof typeof CLIPS): Load[] {
  const config = RELEASED[model];
  const { frames, padding, height, width } = latentSize(config, CLIPS[model]);
  const sequence = tokenCount(tokenGrid(config, frames + padding, height, width)) + config.max_text_seq_length;
  const d = innerDim(config);
  const shapes: [string, number[]][] = [
    ["attention's linear layers", [sequence, d, d]],
    ["feed-forward up", [sequence, 4 * d, d]],
    ["feed-forward down", [sequence, d, 4 * d]],
    ["adapter down", [sequence, RANK, d]],
    ["adapter up", [sequence, d, RANK]],
    ["adapter gradient", [RANK, d, sequence]],
  ];
  const sizes = UNIT_SIZES.filter(({ size }) => size.buffers === 1);
  return [
    ...shapes.flatMap(([name, shape]) => sizes.map((size) => product(`${name} ${shape.join(" x ")}`, shape, size))),
    ...PASSES.flatMap((pass) =>
      ATTENTION_SIZES.map((size) => attention(pass, config.num_attention_heads, sequence, size))
        .map((load) => ({ ...load, problem: `${load.problem} ${config.num_attention_heads} x ${sequence}` }))
    ),
  ];
}

/** The autoencoder's convolutions by 3 x 3 x 3 of 8 frames: positions x outputs over taps x channels. */
function convolutions(): Load[] {
  return ([[128, 480, 720], [256, 240, 360], [512, 60, 90]] as const).flatMap(([channels, height, width]) =>
    UNIT_SIZES.filter(({ size }) => size.buffers === 1).map((size) => {
      const shape = [8 * height * width, channels, 27 * channels];
      const load = product(`convolution ${channels} at ${height} x ${width}`, shape, size);
      // The input is read from device memory once, not once per tap.
      return {
        ...load,
        device: BYTES * (10 * height * width * channels + 27 * channels ** 2 + 8 * height * width * channels),
      };
    })
  );
}

/** The rate that a card allows, what bounds it, and the rate of L2 that this asks for. */
function bound(load: Load, card: Card): string {
  if (load.memory > card.workgroupBytes) return "too large";
  const levels = [
    { name: "units", seconds: load.flops / card.unitTflops },
    { name: "device memory", seconds: load.device / card.deviceTbytes },
    ...(card.workgroupTbytes === undefined
      ? []
      : [{ name: "workgroup memory", seconds: load.workgroup / card.workgroupTbytes }]),
  ];
  const slowest = levels.reduce((a, b) => b.seconds > a.seconds ? b : a);
  const rate = load.flops / slowest.seconds;
  return `${rate.toFixed(0)} ${slowest.name} (${(load.l2 / slowest.seconds).toFixed(1)})`;
}

/** Workgroups that a multiprocessor of a card holds: by registers, with 32 more a thread for addresses, and workgroup memory. */
function held(load: Load, { registers, multiprocessorBytes }: Card): string {
  if (registers === undefined || multiprocessorBytes === undefined) return "?";
  const byRegisters = Math.floor(registers / ((load.registers + 32) * load.threads));
  return `${Math.min(byRegisters, Math.floor(multiprocessorBytes / load.memory))}`;
}

function table(title: string, loads: readonly Load[]): string {
  const flopsPerByte = (load: Load, bytes: number) => (load.flops / bytes).toFixed(0);
  const cells = loads.filter(({ memory }) => memory < Infinity).map((load) => [
    load.problem,
    load.variant,
    (load.flops / 1e12).toFixed(2),
    flopsPerByte(load, load.device),
    flopsPerByte(load, load.l2),
    flopsPerByte(load, load.workgroup),
    `${load.threads}`,
    load.registers.toFixed(0),
    (load.memory / 1024).toFixed(1),
    CARDS.slice(0, 2).map((card) => held(load, card)).join(", "),
    ...CARDS.map((card) => bound(load, card)),
  ]);
  const head = [
    ...["kernel", "variant", "TFLOP", "FLOP/B device", "FLOP/B L2", "FLOP/B workgroup", "threads", "registers", "KiB"],
    ...["held (H100, 4090)", ...CARDS.map(({ name }) => name)],
  ];
  return [`## ${title}`, "", ...[head, head.map(() => "---"), ...cells].map((row) => `| ${row.join(" | ")} |`), ""]
    .join("\n");
}

const models = (Object.keys(CLIPS) as (keyof typeof CLIPS)[]).map((model) => table(model, loadsOf(model)));
const text = [...models, table("Autoencoder", convolutions())].join("\n");
Deno.stdout.writeSync(new TextEncoder().encode(text));
