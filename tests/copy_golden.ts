/**
 * `deno run -A tests/copy_golden.ts`: copies a small part of the reference set into `golden/`, so that a clone
 * without the set can show parity. Of big gradients every eighth row is kept, and one merged layer of the LoRA.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Dtype } from "../lib/io/safetensors/dtypes.ts";
import { openSafetensors } from "../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../lib/io/safetensors/writer.ts";
import { openTransformer } from "../lib/models/transformer/file.ts";
import { fromFileUrl } from "./paths.ts";
import { referenceFolder } from "./reference.ts";

/** Files copied as they are. */
const WHOLE = [
  "transformer/2b.safetensors",
  "training/2b.lora-r4.safetensors",
  "text/t5-2b.safetensors",
  "text/tokenizer.json",
  "vae/5b-5x16x40.safetensors",
  "vae/tiled-1.safetensors",
  "pipelines/tiny-5b/vae/config.json",
  "pipelines/tiny-5b/vae/diffusion_pytorch_model.safetensors",
  "schedulers/tables.safetensors",
  "schedulers/ddim-2b-trailing-4.safetensors",
  "schedulers/dpm-2b-trailing-4.safetensors",
  "lora/5b-meta/pytorch_lora_weights.safetensors",
];

/** Gradients with more values are thinned, as the set does for other variants. */
const MOST_VALUES = 2048;

async function copyGradients(source: string, target: string): Promise<void> {
  using file = openSafetensors(source);
  const tensors = [...file.tensors].map(([name, { dtype, shape }]): TensorToWrite => {
    const data = file.readBytes(name);
    const size = shape.reduce((a, b) => a * b, 1);
    if (size <= MOST_VALUES) return { name, dtype: dtype as Dtype, shape, data };
    const rowBytes = data.length / shape[0]!;
    const rows = Array.from({ length: Math.ceil(shape[0]! / 8) }, (_, i) => 8 * i);
    return {
      name,
      dtype: dtype as Dtype,
      shape: [rows.length, ...shape.slice(1)],
      data: () => rows.map((row) => data.subarray(row * rowBytes, (row + 1) * rowBytes)),
    };
  });
  await writeSafetensors(target, tensors, { metadata: Object.fromEntries(file.metadata) });
}

/** One weight before and after diffusers fused half of the LoRA without alpha into it, which is the whole with alpha 2 of rank 4. */
async function copyFused(reference: string, target: string): Promise<void> {
  const name = "transformer_blocks.1.attn1.to_q.weight";
  using base = openTransformer(join(reference, "pipelines/tiny-5b"));
  using fused = openSafetensors(join(reference, "lora/5b.safetensors"));
  const shape = base.source.tensors.get(name)!.shape;
  await writeSafetensors(target, [
    { name, dtype: "F32", shape, data: base.source.readF32(name) },
    { name: `fused.${name}`, dtype: "F32", shape, data: fused.readF32(`plain.fused0.5.${name}`) },
  ]);
}

if (referenceFolder === undefined) throw new Error("the reference set is not beside this checkout");
const target = fromFileUrl("./golden", import.meta.url);
for (const path of WHOLE) {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  writeFileSync(join(target, path), readFileSync(join(referenceFolder, path)));
}
await copyGradients(
  join(referenceFolder, "transformer/2b.grads.safetensors"),
  join(target, "transformer/2b.grads.safetensors"),
);
await copyFused(referenceFolder, join(target, "lora/5b.fused.safetensors"));
