/** The example model's transformer: fine-tuned from noise on drawn clips, by the same `train` that users call. */
import { existsSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { RandomStream } from "../../lib/data/random/random.ts";
import { encodeF32 } from "../../lib/io/safetensors/half.ts";
import { parameterShapes, parseTransformerConfig } from "../../lib/models/transformer/config.ts";
import { openTransformer, writeTransformer } from "../../lib/models/transformer/file.ts";
import { parseConfig, train } from "../../mod.ts";
import { combinations, writeClips } from "./clips.ts";
import { TEXT_LENGTH, TEXT_WIDTH } from "./text_encoder.ts";
import { type Direction, DIRECTIONS, FPS, FRAMES, SIZE } from "./world.ts";

const CONFIG = {
  _class_name: "CogVideoXTransformer3DModel",
  activation_fn: "gelu-approximate",
  attention_bias: true,
  attention_head_dim: 64,
  dropout: 0,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 16,
  max_text_seq_length: TEXT_LENGTH,
  norm_elementwise_affine: true,
  norm_eps: 1e-5,
  num_attention_heads: 2,
  num_layers: 4,
  out_channels: 16,
  patch_size: 2,
  sample_frames: FRAMES,
  sample_height: SIZE / 8,
  sample_width: SIZE / 8,
  spatial_interpolation_scale: 1,
  temporal_compression_ratio: 4,
  temporal_interpolation_scale: 1,
  text_embed_dim: TEXT_WIDTH,
  time_embed_dim: 128,
  timestep_activation_fn: "silu",
  use_learned_positional_embeddings: false,
  use_rotary_positional_embeddings: false,
};

/** What the example model knows; stars and purple are left to whoever fine-tunes it. */
const KNOWN = {
  shapes: ["circle", "square", "triangle"],
  colours: ["red", "green", "blue", "yellow", "white"],
  directions: Object.keys(DIRECTIONS) as Direction[],
} as const;

/** Clips of every combination. */
const CLIPS = 10;

/**
 * Writes a transformer whose blocks do nothing and whose output is 0: gates, modulations and the last layer start at zero, as in
 * arXiv:2212.09748, all other matrices at the variance 1 / inputs.
 */
async function writeStart(folder: string): Promise<void> {
  const shapes = parameterShapes(parseTransformerConfig(CONFIG, "config.json"));
  const tensors = [...shapes].map(([name, shape], sample) => {
    const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
    const inputs = values.length / shape[0]!;
    if (shape.length === 1) values.fill(/norm\w*\.weight$/.test(name) ? 1 : 0);
    else if (!/norm\w*\.linear|proj_out/.test(name)) {
      new RandomStream({ seed: 1, purpose: "weights", step: 0, sample }).fillNormals(values);
      values.forEach((value, i) => values[i] = value / Math.sqrt(inputs));
    }
    return { name, shape, dtype: "f32", data: () => [encodeF32(values, "f32")] } as const;
  });
  await rm(folder, { recursive: true, force: true });
  await writeTransformer(folder, `${JSON.stringify(CONFIG, null, 2)}\n`, tensors);
}

/** Trains and writes `transformer/` of a model folder that has all other parts. Clips and checkpoints go to `scratch`, from which it continues. */
export async function makeTransformer(model: string, scratch: string, print: (line: string) => void): Promise<void> {
  const clips = join(scratch, "clips");
  print("drawing clips");
  await writeClips(clips, combinations(KNOWN, CLIPS), 1);
  const start = join(scratch, "model");
  await cp(model, start, { recursive: true });
  await writeStart(join(start, "transformer"));
  const output_dir = join(scratch, "run");
  const config = parseConfig("", {
    overrides: {
      ...(existsSync(output_dir) ? { resume_from_checkpoint: "latest" } : {}),
      model_path: start,
      model_name: "cogvideox-t2v",
      training_type: "sft",
      data_root: clips,
      caption_dropout: 0.1,
      output_dir,
      train_resolution: `${FRAMES}x${SIZE}x${SIZE}`,
      fps: FPS,
      batch_size: 16,
      train_steps: 3300,
      learning_rate: 1.5e-3,
      lr_scheduler: "cosine",
      beta2: 0.99,
      weight_decay: 0,
      ema_decay: 0.995,
      gradient_checkpointing: false,
      checkpointing_steps: 250,
      log_every: 50,
    },
  });
  for await (const event of train(config)) {
    if (event.type === "step") {
      print(`transformer, step ${event.step} of ${event.totalSteps}: loss ${event.loss.toFixed(4)}`);
    }
    if (event.type === "finished") await halve(join(event.path, "transformer_ema"), join(model, "transformer"));
  }
}

/** Copies a transformer folder with its weights as f16. */
async function halve(from: string, to: string): Promise<void> {
  using transformer = openTransformer(from);
  const tensors = [...transformer.source.tensors].map(([name, { shape }]) => {
    const values = transformer.source.readF32(name);
    return { name, shape, dtype: "f32", data: () => [encodeF32(values, "f32")] } as const;
  });
  await rm(to, { recursive: true, force: true });
  await writeTransformer(to, transformer.configJson, tensors, { dtype: "f16" });
}
