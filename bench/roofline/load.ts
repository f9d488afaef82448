/** One kernel at one shape as bench/roofline.ts sees it, and the shapes of the released models. */
import { innerDim, latentSize, RELEASED } from "../../lib/models/transformer/config.ts";
import { tokenCount, tokenGrid } from "../../lib/models/transformer/positions.ts";
import type { Card } from "../cards.ts";

/** One kernel at one shape. Bytes are of the whole launch. */
export interface Load {
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
  /** What computes, and 10^-12 seconds that it takes. */
  readonly arithmetic: { readonly name: string; readonly time: (card: Card) => number };
}

/** Bytes of an operand: bf16. */
export const BYTES = 2;

/** Columns of a head. */
export const HEAD = 64;

/** A named size. */
export interface Sized<Size> {
  readonly name: string;
  readonly size: Size;
}

/** Clips that the models were released for; image-to-video models have the same shapes but for the first layer. */
const CLIPS = { "2b": [49, 480, 720], "5b": [49, 480, 720], "1.5-5b": [81, 768, 1360] } as const;

/** The models whose shapes differ. */
export const MODELS = Object.keys(CLIPS) as readonly (keyof typeof CLIPS)[];

/** Rows, channels and heads of a model. */
export interface ModelShape {
  readonly sequence: number;
  readonly width: number;
  readonly heads: number;
}

/** Shape of a model on its clip. */
export function shapeOf(model: keyof typeof CLIPS): ModelShape {
  const config = RELEASED[model];
  const { frames, padding, height, width } = latentSize(config, CLIPS[model]);
  const sequence = tokenCount(tokenGrid(config, frames + padding, height, width)) + config.max_text_seq_length;
  return { sequence, width: innerDim(config), heads: config.num_attention_heads };
}

/** Rank of the presets' adapters. */
const RANK = 128;

/** A product C[m, n] over k. */
export interface Product {
  readonly problem: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Bytes of device memory where they are not those of the three matrices. */
  readonly device?: number;
}

/** The products of a block. */
export function productsOf({ sequence: m, width: d }: ModelShape): Product[] {
  const shapes: readonly (readonly [string, number, number, number])[] = [
    ["attention's linear layers", m, d, d],
    ["feed-forward up", m, 4 * d, d],
    ["feed-forward down", m, d, 4 * d],
    ["adapter down", m, RANK, d],
    ["adapter up", m, d, RANK],
    ["adapter gradient", RANK, d, m],
  ];
  return shapes.map(([name, m, n, k]) => ({ problem: `${name} ${m} x ${n} x ${k}`, m, n, k }));
}

/** The autoencoder's convolutions by 3 x 3 x 3 of 8 frames: positions x outputs over taps x channels. */
export function convolutions(): Product[] {
  return ([[128, 480, 720], [256, 240, 360], [512, 60, 90]] as const).map(([channels, height, width]) => ({
    problem: `convolution ${channels} at ${height} x ${width}`,
    m: 8 * height * width,
    n: channels,
    k: 27 * channels,
    // The input is read from device memory once, not once per tap.
    device: BYTES * (10 * height * width * channels + 27 * channels ** 2 + 8 * height * width * channels),
  }));
}

/** Bytes of device memory of a product. */
export function deviceBytes({ m, n, k, device = BYTES * (m * k + n * k + m * n) }: Product): number {
  return device;
}
