/**
 * What bounds the kernels, computed and not measured: `deno run -A bench/roofline.ts` prints for the shapes of every released model
 * the bytes moved per level, the registers and workgroup memory of a workgroup, and the rate that each card allows.
 *
 * Device memory is charged each operand once. L2 is charged what workgroups read of their operands; as no vendor publishes its rate, the
 * table says which rate the bound asks of it. Workgroup memory is charged stores, loads, and scores and weights. Conversions to f16,
 * exponentials, barriers and empty issue slots come on top: a kernel can only be slower.
 */
import { type Card, CARDS } from "./cards.ts";
import { convolutions, type Load, MODELS, type ModelShape, productsOf, shapeOf } from "./roofline/load.ts";
import { ROW_HEAD, rowCells } from "./roofline/rows.ts";
import { stagedAttention, stagedProducts } from "./roofline/staged.ts";
import { unitAttention, unitProducts } from "./roofline/units.ts";

/** The rate that a card allows, what bounds it, and the rate of L2 that this asks for. */
function bound(load: Load, card: Card): string {
  if (load.memory > card.workgroupBytes) return "too large";
  const levels = [
    { name: load.arithmetic.name, seconds: load.arithmetic.time(card) },
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

const HEAD = [
  ...["kernel", "variant", "TFLOP", "FLOP/B device", "FLOP/B L2", "FLOP/B workgroup", "threads", "registers", "KiB"],
  ...["held (H100, 4090)", ...CARDS.map(({ name }) => name)],
];

function cellsOf(load: Load): string[] {
  const flopsPerByte = (bytes: number) => (load.flops / bytes).toFixed(0);
  return [
    load.problem,
    load.variant,
    (load.flops / 1e12).toFixed(2),
    flopsPerByte(load.device),
    flopsPerByte(load.l2),
    flopsPerByte(load.workgroup),
    `${load.threads}`,
    load.registers.toFixed(0),
    (load.memory / 1024).toFixed(1),
    CARDS.slice(0, 2).map((card) => held(load, card)).join(", "),
    ...CARDS.map((card) => bound(load, card)),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function section(title: string, shape: ModelShape): string {
  const products = productsOf(shape).flatMap((product) => [...unitProducts(product), ...stagedProducts(product)]);
  const loads = [...products, ...unitAttention(shape), ...stagedAttention(shape)];
  return `## ${title}\n\n${table(HEAD, loads.map(cellsOf))}\n\n${table(ROW_HEAD, rowCells(shape))}\n`;
}

const convolved = convolutions().flatMap((product) => [...unitProducts(product), ...stagedProducts(product)]);
const text = [
  ...MODELS.map((model) => section(model, shapeOf(model))),
  `## Autoencoder\n\n${table(HEAD, convolved.map(cellsOf))}\n`,
].join("\n");
Deno.stdout.writeSync(new TextEncoder().encode(text));
