/**
 * The CogVideoX transformer, forward only; the plan goes backward by itself.
 *
 * Legend: B batch, f latent frames, C channels, h w latent size, Nt text tokens, Nv video tokens, S = Nt + Nv, D width.
 * The two residual streams of the paper live in one tensor [B, S, D], text rows first.
 */
import type { DType } from "../../../kernels/core/kernel.ts";
import { attention } from "../../ops/attention.ts";
import { silu } from "../../ops/activation.ts";
import { feedForward } from "../../ops/feed_forward.ts";
import { gatedResidual } from "../../ops/gated_residual.ts";
import { headNorm, type Rotary } from "../../ops/head_norm.ts";
import { joinRows, videoRows } from "../../ops/join_rows.ts";
import { layerNorm, type Segments } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import { type LatentShape, patchify, unpatchify } from "../../ops/patch.ts";
import { addPositions, addTensors } from "../../ops/add.ts";
import type { Plan } from "../../plan/plan.ts";
import type { Tensor } from "../../plan/tensor.ts";
import type { Parameters } from "./parameters.ts";
import { tokenCount, tokenGrid } from "./positions.ts";
import { patchWidth, type TransformerConfig } from "./config.ts";

/** Epsilon of the query and key norms; the block norms take theirs from the config. */
const HEAD_NORM_EPS = 1e-6;

/** What the host writes before a run. */
export interface TransformerInputs {
  /** f32 [B, f, C, h, w]: noisy latent; all input channels unless `condition` brings the rest. */
  readonly latents: Tensor;
  /** f32 [B, f, C', h, w]: image condition, appended to the channels. */
  readonly condition?: Tensor | undefined;
  /** [B, Nt, X]: prompt embedding. */
  readonly text: Tensor;
  /** f32 [B, D]: sinusoid of the timestep. */
  readonly timestep: Tensor;
  /** f32 [B, Ofs]: sinusoid of ofs, for models that embed it. */
  readonly ofs?: Tensor | undefined;
  readonly rotary?: Rotary | undefined;
  /** Additive positions of the joint sequence [S, D]. */
  readonly positions?: Tensor | undefined;
}

/** Inner results that tests compare. */
export interface TransformerTrace {
  conditioning?: Tensor;
  embedded?: Tensor;
  blocks: Tensor[];
  normalised?: Tensor;
}

/**
 * Records the model; returns the predicted velocity, f32 [B, f, Co, h, w]. `activation` is the storage of activations.
 */
export function transformer(
  plan: Plan,
  config: TransformerConfig,
  parameters: Parameters,
  inputs: TransformerInputs,
  activation: DType,
  trace: TransformerTrace = { blocks: [] },
): Tensor {
  const [batch, frames, , height, width] = inputs.latents.shape as [number, number, number, number, number];
  const textRows = inputs.text.shape[1]!;
  const sequence = textRows + tokenCount(tokenGrid(config, frames, height, width));
  const segments: Segments = { sequence, textRows };
  const latent: LatentShape = { batch, frames, height, width, framesPerPatch: config.patch_size_t ?? 1 };

  const conditioning = conditioningVector(plan, config, parameters, inputs);
  trace.conditioning = conditioning;
  const s = silu(plan, conditioning);

  const embedded = plan.scope("patch_embed", () => {
    const patches = patchify(plan, inputs.latents, inputs.condition, latent, activation);
    const video = linear(plan, patches, parameters.linear("patch_embed.proj"));
    const text = linear(plan, inputs.text, parameters.linear("patch_embed.text_proj"), activation);
    const joint = joinRows(plan, text, video, batch, segments);
    return inputs.positions === undefined ? joint : addPositions(plan, joint, inputs.positions);
  });
  trace.embedded = embedded;

  let x = embedded;
  for (let i = 0; i < config.num_layers; i++) {
    x = plan.checkpoint(
      x,
      (input) =>
        plan.scope(
          `transformer_blocks.${i}`,
          () => block(plan, config, parameters, i, input, s, segments, inputs.rotary),
        ),
    );
    trace.blocks.push(x);
  }

  const video = videoRows(plan, x, segments);
  const rows: Segments = { sequence: sequence - textRows, textRows: 0 };
  const final = layerNorm(plan, video, parameters.norm("norm_final"), rows, config.norm_eps);
  const modulation = linear(plan, s, parameters.linear("norm_out.linear"));
  const normalised = layerNorm(plan, final, parameters.norm("norm_out.norm"), rows, config.norm_eps, {
    tensor: modulation,
    shiftText: 0,
    scaleText: 1,
    shiftVideo: 0,
    scaleVideo: 1,
  });
  trace.normalised = normalised;
  const patches = linear(plan, normalised, parameters.linear("proj_out"), "f32");
  if (patches.width !== patchWidth(config, config.out_channels)) {
    throw new RangeError(
      `proj_out gives ${patches.width} values a patch: expected ${patchWidth(config, config.out_channels)}`,
    );
  }
  return unpatchify(plan, patches, config.out_channels, latent);
}

/** e = MLP(sin_emb(t)) (+ MLP(sin_emb(ofs))), f32 [B, Te]; kept in f32 because every block depends on it. */
function conditioningVector(
  plan: Plan,
  config: TransformerConfig,
  parameters: Parameters,
  { timestep, ofs }: TransformerInputs,
): Tensor {
  const embed = (name: string, x: Tensor) =>
    plan.scope(name, () => {
      const hidden = silu(plan, linear(plan, x, parameters.linear(`${name}.linear_1`)));
      return linear(plan, hidden, parameters.linear(`${name}.linear_2`));
    });
  const time = embed("time_embedding", timestep);
  if (config.ofs_embed_dim === null) return time;
  if (ofs === undefined) throw new Error("This model embeds ofs, so inputs.ofs must be given");
  return addTensors(plan, time, embed("ofs_embedding", ofs));
}

/** One block: adaLN, joint attention, gate; adaLN, feed-forward, gate. */
function block(
  plan: Plan,
  config: TransformerConfig,
  parameters: Parameters,
  index: number,
  input: Tensor,
  s: Tensor,
  segments: Segments,
  rotary: Rotary | undefined,
): Tensor {
  const at = `transformer_blocks.${index}`;
  const attended = adaptive(plan, config, parameters, `${at}.norm1`, input, s, segments, (x) => {
    const project = (name: string) => linear(plan, x, parameters.linear(`${at}.attn1.${name}`));
    const q = headNorm(plan, project("to_q"), parameters.norm(`${at}.attn1.norm_q`), segments, HEAD_NORM_EPS, rotary);
    const k = headNorm(plan, project("to_k"), parameters.norm(`${at}.attn1.norm_k`), segments, HEAD_NORM_EPS, rotary);
    const o = attention(plan, q, k, project("to_v"), config.num_attention_heads);
    return linear(plan, o, parameters.linear(`${at}.attn1.to_out.0`));
  });
  return adaptive(plan, config, parameters, `${at}.norm2`, attended, s, segments, (x) => {
    return feedForward(plan, x, parameters.linear(`${at}.ff.net.0.proj`), parameters.linear(`${at}.ff.net.2`));
  });
}

/** x + gate * branch(modulated norm of x); chunk order: shift, scale, gate of video, then the same of text. */
function adaptive(
  plan: Plan,
  config: TransformerConfig,
  parameters: Parameters,
  name: string,
  x: Tensor,
  s: Tensor,
  segments: Segments,
  branch: (normalised: Tensor) => Tensor,
): Tensor {
  const modulation = linear(plan, s, parameters.linear(`${name}.linear`));
  const normalised = layerNorm(plan, x, parameters.norm(`${name}.norm`), segments, config.norm_eps, {
    tensor: modulation,
    shiftVideo: 0,
    scaleVideo: 1,
    shiftText: 3,
    scaleText: 4,
  });
  return gatedResidual(plan, x, branch(normalised), { tensor: modulation, gateVideo: 2, gateText: 5 }, segments);
}
