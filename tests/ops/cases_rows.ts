/** Attention, and the ops that move rows: patches, joint sequences. */
import type { DType } from "../../kernels/core/kernel.ts";
import { attention } from "../../lib/ops/attention.ts";
import { joinRows, videoRows } from "../../lib/ops/join_rows.ts";
import { patchify, unpatchify } from "../../lib/ops/patch.ts";
import { type OpCase, opCase, type Operand } from "./op_case.ts";
import { attentionReference, type LatentReference, patchOrder } from "./reference.ts";

function attentionCase(batch: number, sequence: number, heads: number, headDim: number, dtype: DType = "f32"): OpCase {
  // An overwritten gradient would go unnoticed by the kernel, so attention comes last among the consumers of its inputs.
  const rows: Operand = {
    shape: [batch, sequence, heads * headDim],
    role: "input",
    dtype,
    values: (v) => 3 * v,
    shared: "before",
  };
  return opCase({
    name: `attention ${dtype} ${batch} x ${sequence} x ${heads} heads of ${headDim}`,
    operands: { q: rows, k: rows, v: rows },
    record: (plan, { q, k, v }) => attention(plan, q, k, v, heads),
    reference: (values) => attentionReference(values, { batch, sequence, heads, headDim }),
    flops: 4 * batch * heads * sequence * sequence * headDim,
  });
}

function latentOperand({ batch, frames, height, width }: LatentReference, channels: number): Operand {
  return { shape: [batch, frames, channels, height, width], role: "input", shared: "before" };
}

const sizes = ({ span, ...latent }: LatentReference) => ({ ...latent, framesPerPatch: span });

function patchifyCase(latent: LatentReference, dtype: DType): OpCase {
  const order = patchOrder(latent);
  return opCase({
    name: `patchify to ${dtype}, ${latent.span} frame(s) a patch`,
    operands: { latents: latentOperand(latent, latent.channels) },
    record: (plan, { latents }) => patchify(plan, latents, undefined, sizes(latent), dtype),
    reference: ({ latents }) => Float64Array.from(order, (at) => latents[at]!),
  });
}

/** Channels of the image follow those of the video; nothing asks for a gradient here. */
function conditionedCase(latent: LatentReference, own: number): OpCase {
  const { batch, frames, channels, height, width } = latent;
  const area = height * width;
  const order = patchOrder(latent);
  const frozen = (count: number): Operand => ({ ...latentOperand(latent, count), role: "constant" });
  return opCase({
    name: `patchify with a condition, ${latent.span} frame(s) a patch`,
    operands: { latents: frozen(own), condition: frozen(channels - own) },
    record: (plan, { latents, condition }) => patchify(plan, latents, condition, sizes(latent), "f32"),
    reference: ({ latents, condition }) => {
      const all = new Float64Array(batch * frames * channels * area);
      for (let frame = 0; frame < batch * frames; frame++) {
        all.set(latents.subarray(frame * own * area, (frame + 1) * own * area), frame * channels * area);
        const rest = (channels - own) * area;
        all.set(condition.subarray(frame * rest, (frame + 1) * rest), (frame * channels + own) * area);
      }
      return Float64Array.from(order, (at) => all[at]!);
    },
  });
}

function unpatchifyCase(latent: LatentReference, dtype: DType): OpCase {
  const order = patchOrder(latent);
  const { batch, channels, span } = latent;
  const features = channels * span * 4;
  return opCase({
    name: `unpatchify from ${dtype}, ${span} frame(s) a patch`,
    operands: {
      rows: { shape: [batch, order.length / batch / features, features], role: "input", dtype, shared: "before" },
    },
    record: (plan, { rows }) => unpatchify(plan, rows, channels, sizes(latent)),
    reference: ({ rows }) => {
      const latents = new Float64Array(rows.length);
      order.forEach((at, i) => latents[at] = rows[i]!);
      return latents;
    },
  });
}

const segments = { sequence: 7, textRows: 3 };

function joinCase(textRole: Operand["role"], videoRole: Operand["role"], text: DType, video: DType): OpCase {
  const [batch, width] = [2, 12];
  return opCase({
    name: `join ${textRole} text ${text} and ${videoRole} video ${video}`,
    operands: {
      text: { shape: [batch, 3, width], role: textRole, dtype: text, shared: "before" },
      video: { shape: [batch, 4, width], role: videoRole, dtype: video, shared: "before" },
    },
    record: (plan, { text, video }) => joinRows(plan, text, video, batch, segments),
    reference: ({ text, video }) =>
      Float64Array.from({ length: batch * 7 * width }, (_, i) => {
        const [b, at] = [Math.floor(i / (7 * width)), i % (7 * width)];
        return at < 3 * width ? text[b * 3 * width + at]! : video[b * 4 * width + at - 3 * width]!;
      }),
  });
}

function videoCase(dtype: DType): OpCase {
  const [batch, width] = [2, 12];
  return opCase({
    name: `video rows of a joint sequence, ${dtype}`,
    operands: { x: { shape: [batch, 7, width], role: "input", dtype, shared: "before" } },
    record: (plan, { x }) => videoRows(plan, x, segments),
    reference: ({ x }) => x.filter((_, i) => i % (7 * width) >= 3 * width),
  });
}

const image: LatentReference = { batch: 2, frames: 3, channels: 5, height: 4, width: 6, span: 1 };
const packed: LatentReference = { ...image, frames: 4, channels: 3, span: 2 };

export const rowCases: readonly OpCase[] = [
  attentionCase(2, 7, 2, 64),
  attentionCase(2, 5, 1, 32),
  attentionCase(1, 1, 1, 64),
  attentionCase(1, 69, 1, 64),
  attentionCase(2, 7, 2, 64, "bf16"),
  attentionCase(1, 35, 1, 64, "f16"),
  patchifyCase(image, "f32"),
  patchifyCase(packed, "f32"),
  patchifyCase(packed, "bf16"),
  conditionedCase(image, 3),
  conditionedCase(packed, 1),
  unpatchifyCase(image, "f32"),
  unpatchifyCase(packed, "f32"),
  unpatchifyCase(packed, "bf16"),
  joinCase("input", "input", "f32", "f32"),
  joinCase("constant", "input", "f32", "f32"),
  joinCase("input", "constant", "f32", "f32"),
  joinCase("input", "input", "bf16", "bf16"),
  videoCase("f32"),
  videoCase("bf16"),
];
