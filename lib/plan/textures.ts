/**
 * Operands read through textures. Software adapters load from a buffer lane by lane with a check for each, and from a
 * texture whole: llvmpipe takes 28 to 230 ns for eight vectors of a buffer and 8 to 15 of a texture, depending on the
 * processor. So launches there read large tensors through copies in textures, which are made right before. Results are
 * the same bits.
 */
import { type TexelFormat, texelFormat, TEXTURE_WIDTH } from "../../kernels/core/kernel.ts";
import { pieceRanges } from "./pieces.ts";
import type { LaunchStep, Step } from "./plan.ts";
import type { RecordingLimits } from "./limits.ts";
import type { Tensor } from "./tensor.ts";

/** All formats. */
export const TEXEL_FORMATS: readonly TexelFormat[] = ["rgba32float", "rg32uint"];

/** Rows of textures by format and slot. */
export type TextureRows = Readonly<Record<TexelFormat, readonly number[]>>;

/** An operand of a launch that is read through a texture. */
export interface TexturedOperand {
  /** Index among the operands. */
  readonly index: number;
  readonly tensor: Tensor;
  readonly format: TexelFormat;
  /** Number of the texture among those of this format. */
  readonly slot: number;
  readonly rows: number;
}

/** Bytes of a row of texels. */
export function textureRowBytes(format: TexelFormat): number {
  return TEXTURE_WIDTH * (format === "rgba32float" ? 16 : 8);
}

const rowsOf = (tensor: Tensor): number => Math.ceil(tensor.size / (4 * TEXTURE_WIDTH));

/**
 * The steps, those with large operands reading all they can through textures, the largest where not all fit. Operands
 * in pieces are read from their buffers.
 */
export function throughTextures(steps: readonly Step[], limits: RecordingLimits): readonly Step[] {
  const { textures } = limits;
  if (textures === undefined) return steps;
  const { leastBytes, most, maxRows } = textures;
  return steps.map((step) => {
    if (step.kind === "transfer") return step;
    const { tensors, writes, launch } = step;
    const read = tensors.flatMap((tensor, i) => {
      const fits = rowsOf(tensor) <= maxRows && pieceRanges(tensor, limits).length === 1;
      return fits && tensor.dtype !== "u32" && !writes.includes(tensor) ? [i] : [];
    });
    // One large operand pays for the break of the pass; small ones then come along.
    if (!read.some((i) => tensors[i]!.bytes >= leastBytes)) return step;
    const largest = read.sort((a, b) => tensors[b]!.bytes - tensors[a]!.bytes || a - b).slice(0, most);
    const chosen = largest.sort((a, b) => a - b);
    return { ...step, launch: { ...launch, kernel: launch.kernel.throughTextures(chosen) } };
  });
}

/** The operands of a launch that are read through textures. */
export function texturedOperands({ launch, tensors }: LaunchStep): TexturedOperand[] {
  const used = { rgba32float: 0, rg32uint: 0 };
  return launch.kernel.buffers.flatMap(({ texture }, index) => {
    if (!texture) return [];
    const tensor = tensors[index]!;
    const format = texelFormat(tensor.dtype);
    return [{ index, tensor, format, slot: used[format]++, rows: rowsOf(tensor) }];
  });
}

/** Rows of the textures that the steps need, by format and slot. */
export function textureRows(steps: readonly Step[]): TextureRows {
  const rows: Record<TexelFormat, number[]> = { rgba32float: [], rg32uint: [] };
  for (const step of steps) {
    if (step.kind === "transfer") continue;
    for (const { format, slot, rows: needed } of texturedOperands(step)) {
      rows[format][slot] = Math.max(rows[format][slot] ?? 0, needed);
    }
  }
  return rows;
}
