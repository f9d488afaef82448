/** Latents to rows of patches and back; both directions are permutations, and each is the gradient of the other. */
import { patchify as toRows, unpatchify as toLatents } from "../../kernels/rows/patch.ts";
import type { DType } from "../../kernels/core/kernel.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";

/** Size of a latent [batch, frames, channels, height, width]; patches are 2 x 2 pixels and `framesPerPatch` frames. */
export interface LatentShape {
  readonly batch: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly framesPerPatch: number;
}

function tokens({ frames, height, width, framesPerPatch }: LatentShape): number {
  return frames / framesPerPatch * height / 2 * width / 2;
}

/**
 * Records rows [batch, tokens, channels * patch] of latents (f32 [batch, frames, channels, height, width]); the
 * channels of `condition` follow those of `latents`.
 */
export function patchify(
  plan: Plan,
  latents: Tensor,
  condition: Tensor | undefined,
  shape: LatentShape,
  dtype: DType,
): Tensor {
  const channels = latents.shape[2]!;
  const conditionChannels = condition?.shape[2] ?? 0;
  const sizes = { ...shape, channels, conditionChannels };
  const patch = 4 * shape.framesPerPatch;
  const rows = plan.transient("patches", [shape.batch, tokens(shape), (channels + conditionChannels) * patch], dtype, [
    latents,
  ]);
  const tail = condition === undefined ? [] : [condition];
  const spec = { y: dtype, condition: condition !== undefined };
  plan.launch(toRows(spec, sizes), [latents, rows, ...tail], [rows]);
  return plan.differentiable(rows, (g) => {
    if (condition !== undefined) throw new Error("The gradient of latents with a separate condition is not defined");
    plan.contribute(latents, (d) => {
      plan.launch(toLatents({ rows: g.dtype }, { ...sizes, conditionChannels: 0 }), [g, d], [d]);
    });
  });
}

/** Records latents f32 [batch, frames, channels, height, width] from rows of patches. */
export function unpatchify(plan: Plan, rows: Tensor, channels: number, shape: LatentShape): Tensor {
  const sizes = { ...shape, channels, conditionChannels: 0 };
  const { batch, frames, height, width } = shape;
  const latents = plan.transient("latents", [batch, frames, channels, height, width], "f32", [rows]);
  plan.launch(toLatents({ rows: rows.dtype }, sizes), [rows, latents], [latents]);
  return plan.differentiable(latents, (g) => {
    plan.contribute(rows, (d) => {
      plan.launch(toRows({ y: d.dtype, condition: false }, sizes), [g, d], [d]);
    });
  });
}
