/** Stages `products`, `attention`, `convolutions` and `rows`: every variant of the hot kernels at the shapes of all released models. */
import type { Layout } from "../../kernels/matrix/gemm_shape.ts";
import { causalShape } from "../../tests/kernels/shapes.ts";
import { attentionEntries } from "../entries/attention.ts";
import { convEntry } from "../entries/conv.ts";
import { gemmEntry } from "../entries/gemm.ts";
import { rowEntries } from "../entries/rows.ts";
import type { Entry } from "../suite.ts";
import { type Ladder, Stopwatch } from "./measure.ts";
import { type BlockSizes, blockSizes } from "./shapes.ts";
import { isSmall, stageArguments } from "./stage.ts";

/** Rank of the adapters of the presets. */
const RANK = isSmall ? 16 : 128;

/** One ladder for each launch that `entriesAt` makes of a size. */
function ladders<Size>(sizes: readonly Size[], entriesAt: (size: Size) => readonly Entry[]): Ladder[] {
  const rungs = sizes.map(entriesAt);
  return rungs[0]!.map((_, i) => rungs.map((entries) => entries[i]!));
}

/** Sizes from a sixteenth of the rows up. */
function growing(rows: number): number[] {
  return isSmall ? [rows] : [16, 4, 1].map((part) => Math.ceil(rows / part / 4) * 4).with(-1, rows);
}

/** The products of a block: forward, gradients of inputs, of weights, and of adapters. */
function products({ rows, width }: BlockSizes): Ladder[] {
  const shapesAt = (m: number): readonly (readonly [string, Layout, number, number, number])[] => [
    ["query, key, value, output", "NT", m, width, width],
    ["feed-forward up", "NT", m, 4 * width, width],
    ["feed-forward down", "NT", m, width, 4 * width],
    ["gradient of the input of feed-forward up", "NN", m, width, 4 * width],
    ["adapter down", "NT", m, RANK, width],
    ["adapter up", "NT", m, width, RANK],
    ["gradient of an adapter", "TN", RANK, width, m],
    ["gradient of a weight", "TN", width, width, m],
  ];
  return ladders(
    growing(rows),
    (size) =>
      shapesAt(size).map(([group, layout, m, n, k]) =>
        gemmEntry({ group, name: `${layout} bf16 ${m}x${n}x${k}`, layout, dtype: "bf16", m, n, k })
      ),
  );
}

/** Fewer heads than the model has lower the time, not the rate, once they fill the card. */
const MOST_HEADS = 8;

function attention({ rows, heads }: BlockSizes): Ladder[] {
  return ladders(growing(rows), (sequence) => attentionEntries(sequence, Math.min(heads, MOST_HEADS), "bf16"));
}

function rows({ rows, width }: BlockSizes): Ladder[] {
  return rowEntries(rows, width, "bf16").map((entry) => [entry]);
}

/** The levels of the video autoencoder on two frames of a clip: channels, height, width. */
const LEVELS = isSmall
  ? [[32, 16, 24]] as const
  : [[128, 480, 720], [256, 240, 360], [512, 120, 180], [512, 60, 90]] as const;

function convolutions(): Ladder[] {
  return LEVELS.map(([channels, height, width]) =>
    growing(height).map((rows): Entry => {
      const shape = causalShape({ channels, outputs: channels, frames: 2, height: rows, width });
      return {
        ...convEntry("3x3x3", shape, "f16"),
        name: `f16 ${channels} to ${channels} channels, 2x${rows}x${width}`,
      };
    })
  );
}

const families: Readonly<Record<string, () => Ladder[]>> = {
  products: () => blockSizes.flatMap(products),
  attention: () => blockSizes.flatMap(attention),
  convolutions,
  rows: () => blockSizes.flatMap(rows),
};

await new Stopwatch().measure(families[stageArguments[0]!]!());
Deno.exit(0);
